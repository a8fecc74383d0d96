import { expect, test } from 'vitest';
import { Backoff } from '../../src/flow/backoff.ts';

test('waits are random parts of a range that doubles up to its limit', () => {
  const chances = [0, 0.5, 0.999];
  let turn = 0;
  const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => chances[turn++ % 3] as number });
  const waits = Array.from({ length: 9 }, () => Math.round(backoff.next()));
  expect(waits).toEqual([0, 100, 400, 0, 500, 999, 0, 500, 999]);
  expect(backoff.attempts).toBe(9);
  backoff.reset();
  expect([backoff.next(), backoff.next()].map(Math.round)).toEqual([0, 100]);
});

test('any number of attempts stays within the limit', () => {
  const backoff = new Backoff({ random: () => 0.5 });
  for (let i = 0; i < 5000; i++) expect(backoff.next()).toBeLessThanOrEqual(15_000);
});

test.each([
  { minMs: 0, maxMs: 10 },
  { minMs: 20, maxMs: 10 },
  { minMs: Number.NaN, maxMs: 10 },
  { minMs: 1, maxMs: Number.POSITIVE_INFINITY },
])('a range of %o is refused', (range) => {
  expect(() => new Backoff(range)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});
