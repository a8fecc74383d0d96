import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashOf } from '../../src/flow/hash.ts';
import { TransitMap } from '../../src/flow/transit-map.ts';

test('it holds what a Map holds, in the same order, whatever comes and goes', () => {
  const step = fc.record({ key: fc.integer({ min: 0, max: 40 }), goes: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.boolean(), (steps, isCollided) => {
      const model = new Map<string, number>();
      // All of one hash: every key is looked for behind all others.
      const map = new TransitMap<number>(isCollided ? () => -1 : undefined);
      for (const [i, { key: number, goes }] of steps.entries()) {
        const key = `k${number}`;
        if (goes) {
          const value = model.get(key);
          model.delete(key);
          expect(map.delete(key)).toBe(value);
        } else {
          model.set(key, i);
          map.set(key, i);
        }
        expect(map.get(key)).toBe(model.get(key));
        expect(map.size).toBe(model.size);
      }
      expect(map.keys()).toEqual([...model.keys()]);
      expect(map.values()).toEqual([...model.values()]);
      for (let i = 0; i <= 40; i++) expect(map.get(`k${i}`)).toBe(model.get(`k${i}`));
      for (let i = 0; i <= 40; i++) expect(map.has(`k${i}`)).toBe(model.has(`k${i}`));
    }),
  );
});

test('who knows the hash of a key may give it', () => {
  const map = new TransitMap<number>();
  for (let i = 0; i < 100; i++) map.set(`k${i}`, i, i % 2 === 0 ? hashOf(`k${i}`) : undefined);
  for (let i = 0; i < 100; i++) expect(map.get(`k${i}`, hashOf(`k${i}`))).toBe(i);
  for (let i = 0; i < 100; i++) expect(map.delete(`k${i}`, hashOf(`k${i}`))).toBe(i);
  expect(map.size).toBe(0);
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
