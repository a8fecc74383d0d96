import { expect, test } from 'vitest';
import { RareSet } from '../../src/flow/rare-set.ts';

test('a rare set holds each item once, in the order of their coming', () => {
  const set = new RareSet(['b', 'a', 'b']);
  set.add('c');
  set.add('a');
  expect([...set]).toEqual(['b', 'a', 'c']);
  expect(set.size).toBe(3);
  expect([set.has('a'), set.has('d')]).toEqual([true, false]);
});

test('a rare set that ran empty takes items again', () => {
  const set = new RareSet<number>();
  expect([set.size, set.has(1), set.delete(1), [...set]]).toEqual([0, false, false, []]);
  set.add(1);
  expect([set.delete(1), set.delete(1), set.size]).toEqual([true, false, 0]);
  set.add(2);
  expect([...set]).toEqual([2]);
});

test('what is taken out of a rare set while it is gone through does not come any more', () => {
  const set = new RareSet([1, 2, 3]);
  const seen: number[] = [];
  for (const item of set) {
    seen.push(item);
    set.delete(2);
  }
  expect(seen).toEqual([1, 3]);
});
