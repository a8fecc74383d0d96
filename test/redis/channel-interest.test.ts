import { expect, test } from 'vitest';
import { ChannelInterest } from '../../src/redis/channel-interest.ts';

test('interest is news once, and again when it began anew', () => {
  const interest = new ChannelInterest();
  expect(interest.has('t/a')).toBe(false);
  expect(interest.learn('t/a', 100)).toEqual({ isNew: true, hasHole: false });
  expect(interest.learn('t/a', 100)).toEqual({ isNew: false, hasHole: false });
  // Words can overtake each other.
  expect(interest.learn('t/a', 90)).toEqual({ isNew: false, hasHole: false });
  expect(interest.learn('t/a', 200)).toEqual({ isNew: true, hasHole: false });
  interest.replace(new Map([['t/b', 1]]));
  expect(interest.has('t/a')).toBe(false);
});

test('what was skipped since the interest began is a hole, what was skipped before it is not', () => {
  const interest = new ChannelInterest();
  for (const channel of ['t/before', 't/since']) interest.skip(channel, 99);
  interest.skip('t/since', 100);
  expect(interest.learn('t/before', 100).hasHole).toBe(false);
  expect(interest.learn('t/since', 100).hasHole).toBe(true);
});

test('what was skipped after Redis was told is a hole, unless Redis told of one when the interest began', () => {
  for (const [since, hasHole] of [
    [100, true],
    [100.5, false],
  ] as const) {
    const interest = new ChannelInterest();
    for (const at of [97, 98]) interest.skip('t/more', at);
    interest.skip('t/once', 98);
    expect(interest.learn('t/more', since)).toEqual({ isNew: true, hasHole });
    expect(interest.learn('t/once', since)).toEqual({ isNew: true, hasHole: false });
  }
});

test('when Redis may have lost what it was told, it is told again before anything is kept', () => {
  const interest = new ChannelInterest();
  interest.skip('t/a', 0);
  interest.skip('t/b', 0);
  interest.doubtAll();
  interest.doubt('t/never');
  expect(interest.skip('t/a', 1)).toBe(true);
  expect(interest.isHoleBefore('t/b')).toBe(true);
  expect(interest.isHoleBefore('t/never')).toBe(false);
});

test('a channel that is forgotten before Redis was told of all that was skipped there is named', () => {
  const interest = new ChannelInterest();
  for (const channel of ['t/more', 't/more', 't/once']) interest.skip(channel, 0);
  for (let i = 0; i < 19_998; i++) interest.skip(`t/${i}`, 0);
  expect(interest.takeUntold()).toBeUndefined();
  interest.skip('t/x', 0);
  expect([interest.takeUntold(), interest.takeUntold()]).toEqual(['t/more', undefined]);
  interest.skip('t/y', 0);
  expect(interest.takeUntold()).toBeUndefined();
});

test('Redis is told of the first thing that is skipped, and now and then again', () => {
  const interest = new ChannelInterest();
  expect([interest.skip('t/a', 0), interest.skip('t/a', 1), interest.skip('t/b', 2)]).toEqual([true, false, true]);
  expect([interest.skip('t/a', 4999), interest.skip('t/a', 5000), interest.skip('t/a', 5001)]).toEqual([
    false,
    true,
    false,
  ]);
});

test('what was skipped after Redis was told has to be told before anything is kept', () => {
  const interest = new ChannelInterest();
  expect(interest.isHoleBefore('t/a')).toBe(false);
  interest.skip('t/a', 0);
  expect(interest.isHoleBefore('t/a')).toBe(false);
  expect(interest.skip('t/a', 1)).toBe(true);
  interest.skip('t/a', 2);
  expect(interest.isHoleBefore('t/a')).toBe(true);
  expect(interest.isHoleBefore('t/a')).toBe(false);
});

test('what is not remembered of a channel may be a hole', () => {
  const interest = new ChannelInterest();
  interest.skip('t/old', 100);
  for (let i = 0; i < 20_000; i++) interest.skip(`t/${i}`, 50);
  expect(interest.learn('t/old', 100).hasHole).toBe(true);
  expect(interest.learn('t/never', 101).hasHole).toBe(false);
  interest.skip('t/b', 300);
  interest.clear();
  expect(interest.learn('t/b', 300).hasHole).toBe(true);
  expect(interest.skip('t/b', 400)).toBe(true);
});
