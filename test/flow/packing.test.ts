import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  beginPacking,
  beginUnpacking,
  endPacking,
  giveUpPacking,
  isPackedText,
  packBytes,
  packCount,
  packNumber,
  packText,
  packTextOrNothing,
  unpackBytes,
  unpackCount,
  unpackNumber,
  unpackText,
  unpackTextOrNothing,
} from '../../src/flow/packing.ts';

const ascii = fc.string({ unit: 'grapheme-ascii', maxLength: 200 });

test('what was packed comes back as it was, wherever it stands', () => {
  fc.assert(
    fc.property(
      fc.nat(100),
      ascii,
      fc.option(ascii, { nil: undefined }),
      fc.option(fc.integer({ min: 0, max: 2 ** 31 - 2 }), { nil: undefined }),
      fc.double(),
      fc.uint8Array({ maxLength: 200 }),
      (at, text, maybe, count, number, bytes) => {
        const page = new Uint8Array(1024);
        beginPacking(page, at);
        packText(text);
        packTextOrNothing(maybe);
        packCount(count);
        packNumber(number);
        packBytes(bytes);
        const end = endPacking();
        expect(end).toBeGreaterThan(at);
        beginUnpacking(page, at);
        expect([unpackText(), unpackTextOrNothing(), unpackCount(), unpackNumber(), unpackBytes()]).toEqual([
          text,
          maybe,
          count,
          number,
          bytes,
        ]);
        expect(isPackedText(page, at, text)).toBe(true);
        expect(isPackedText(page, at, `${text}x`)).toBe(false);
        expect(isPackedText(page, at, `${text.slice(0, -1)}\u0000`)).toBe(text.endsWith('\u0000'));
      },
    ),
  );
});

test('what does not fit, or cannot be packed, is told at the end', () => {
  const page = new Uint8Array(16);
  const tries: (() => void)[] = [
    () => packText('seventeen letters'),
    () => packBytes(new Uint8Array(16)),
    () => packText('€'),
    () => packCount(-1),
    () => packCount(0.5),
    () => packCount(2 ** 31),
    () => packCount(Number.NaN),
    () => giveUpPacking(),
    () => {
      packNumber(1);
      packNumber(1);
      packCount(0);
    },
  ];
  for (const attempt of tries) {
    beginPacking(page, 0);
    attempt();
    expect(endPacking(), String(attempt)).toBe(0);
  }
  beginPacking(page, 0);
  packBytes(new Uint8Array(15));
  expect(endPacking()).toBe(16);
});

test('bytes that come back are a copy', () => {
  const page = new Uint8Array(16);
  beginPacking(page, 0);
  packBytes(new Uint8Array([1, 2]));
  beginUnpacking(page, 0);
  const bytes = unpackBytes();
  page.fill(9);
  expect([...bytes]).toEqual([1, 2]);
});
