import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TransitMap } from '../../src/flow/transit-map.ts';

test('it holds what a Map holds, in the same order, whatever comes and goes', () => {
  const step = fc.record({ key: fc.integer({ min: 0, max: 40 }), goes: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.boolean(), (steps, isCollided) => {
      const model = new Map<string, number>();
      const map = new TransitMap<number>();
      for (const [i, { key: number, goes }] of steps.entries()) {
        const key = `k${number}`;
        // All of one hash: every key is looked for behind all others.
        const hash = isCollided ? [-1] : [];
        if (goes) {
          const value = model.get(key);
          model.delete(key);
          expect(map.delete(key, ...hash)).toBe(value);
        } else {
          model.set(key, i);
          map.set(key, i, ...hash);
        }
        expect(map.get(key, ...hash)).toBe(model.get(key));
        expect(map.size).toBe(model.size);
      }
      expect(map.keys()).toEqual([...model.keys()]);
      expect(map.values()).toEqual([...model.values()]);
      for (let i = 0; i <= 40; i++) expect(map.get(`k${i}`, ...(isCollided ? [-1] : []))).toBe(model.get(`k${i}`));
      if (!isCollided) for (let i = 0; i <= 40; i++) expect(map.has(`k${i}`)).toBe(model.has(`k${i}`));
    }),
  );
});

test('a table that was large is given back once it is empty, and serves on', () => {
  const map = new TransitMap<number>();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5000; i++) map.set(`${round}/${i}`, i);
    expect(map.size).toBe(5000);
    expect(map.get(`${round}/4999`)).toBe(4999);
    for (let i = 0; i < 5000; i++) expect(map.delete(`${round}/${i}`)).toBe(i);
    expect(map.values()).toEqual([]);
    expect(map.delete(`${round}/0`)).toBe(undefined);
  }
});
