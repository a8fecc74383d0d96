import { expect, test } from 'vitest';
import type { StepSource } from '../../src/events/event-log.ts';
import { PackedPages } from '../../src/events/packed-pages.ts';

/** A source that is over and packs into so many bytes, each of them `mark`. */
function source(mark: number, bytes: number): StepSource {
  return {
    firstSeq: 0,
    isOver: true,
    bytesOf: () => bytes,
    eventOf: () => ({ type: 't', atMs: 0, data: mark, durable: false }),
    pack: (page, at) => (at + bytes > page.length ? 0 : page.fill(mark, at, at + bytes) && at + bytes),
    unpack: () => source(mark, bytes),
  };
}

test('a ring that is full writes the same few pages again and again, and never one that it still needs', () => {
  const pages = new PackedPages();
  const kept: { page: Uint8Array; at: number; mark: number }[] = [];
  const all = new Set<Uint8Array>();
  for (let seq = 1; seq <= 1000; seq++) {
    const mark = seq % 251;
    const at = pages.write(source(mark, 1000), seq - kept.length, seq);
    expect(at).toBeGreaterThanOrEqual(0);
    kept.push({ page: pages.page, at, mark });
    if (kept.length > 10) kept.shift();
    all.add(pages.page);
    for (const { page, at, mark } of kept)
      expect(page.subarray(at, at + 1000).every((byte) => byte === mark)).toBe(true);
  }
  // Ten of a thousand bytes take three to four pages, and one is being written.
  expect(all.size).toBeLessThanOrEqual(6);
});

test('pages of events that have left the ring all at once are let go of, all but one', () => {
  const pages = new PackedPages();
  const old = new Set<Uint8Array>();
  for (let seq = 1; seq <= 40; seq++) {
    pages.write(source(seq, 1000), 1, seq);
    old.add(pages.page);
  }
  expect(old.size).toBe(10);
  pages.trim(41);
  const again = new Set<Uint8Array>();
  for (let seq = 41; seq <= 60; seq++) {
    pages.write(source(seq, 1000), 41, seq);
    again.add(pages.page);
  }
  expect([...again].filter((page) => old.has(page)).length).toBeLessThanOrEqual(2);
});

test('what fits into no page is left as it is, and what comes after it is packed', () => {
  const pages = new PackedPages();
  expect(pages.write(source(1, 600), 1, 1)).toBe(0);
  expect(pages.write(source(2, 5000), 1, 2)).toBe(-1);
  expect(pages.write(source(3, 600), 1, 3)).toBe(600);
});
