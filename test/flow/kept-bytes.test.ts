import { expect, test } from 'vitest';
import { keptBytes } from '../../src/flow/kept-bytes.ts';

const large = Buffer.alloc(64 * 1024, 7);

test.each([0, 1, 100, 512, 513, 5000, 60_000, 65_536])(
  '%i kept bytes are the same, and keep at most as much again beside a slab',
  (length) => {
    const view = large.subarray(10, 10 + length);
    const kept = keptBytes(view);
    expect(Buffer.from(kept).equals(view)).toBe(true);
    expect(kept.buffer.byteLength - length).toBeLessThanOrEqual(Math.max(4096, length));
  },
);

test('copies do not touch each other', () => {
  const all = Array.from({ length: 200 }, (_, i) => ({ i, kept: keptBytes(Buffer.alloc(97, i)) }));
  for (const { i, kept } of all) expect([...new Set(kept)]).toEqual([i]);
});
