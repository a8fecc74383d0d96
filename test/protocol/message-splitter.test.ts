import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MessageSplitter } from '../../src/protocol/message-splitter.ts';

const framed = (message: Uint8Array, flag = 0): Buffer => {
  const header = Buffer.alloc(5);
  header[0] = flag;
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
};

/** Cuts `bytes` at these places. */
const cut = (bytes: Buffer, places: readonly number[]): Buffer[] => {
  const at = [...new Set([0, ...places.map((place) => place % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((to, index) => bytes.subarray(at[index], to));
};

describe('finding the messages of a stream', () => {
  test('gives the same messages, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
        fc.array(fc.nat(10_000), { maxLength: 50 }),
        (messages, places) => {
          const found: Buffer[] = [];
          const splitter = new MessageSplitter(300, (message) => found.push(message));
          for (const chunk of cut(Buffer.concat(messages.map((message) => framed(message))), places))
            splitter.take(chunk);
          expect(found.map((message) => [...message])).toEqual(messages.map((message) => [...message]));
          expect(splitter.isInside).toBe(false);
        },
      ),
    );
  });

  test('a megabyte that comes byte by byte costs what came, not what was claimed', () => {
    const message = Buffer.alloc(2 ** 20, 7);
    const found: Buffer[] = [];
    const splitter = new MessageSplitter(2 ** 20, (each) => found.push(each));
    const bytes = framed(message);
    for (let at = 0; at < bytes.length; at++) splitter.take(bytes.subarray(at, at + 1));
    expect(found).toHaveLength(1);
    expect(found[0]!.equals(message)).toBe(true);
  });

  test.each([
    ['longer than the limit', framed(Buffer.alloc(101)), 'Received message larger than max (101 vs. 100)'],
    ['flagged as compressed', framed(Buffer.alloc(1), 1), 'a message has the flag 1, but no encoding was agreed on'],
    ['with a flag that there is not', framed(Buffer.alloc(1), 2), 'a message has the flag 2'],
  ])('refuses one %s, in one piece or byte by byte', (_, bytes, message) => {
    const splitter = (): MessageSplitter => new MessageSplitter(100, () => expect.unreachable());
    expect(() => splitter().take(bytes)).toThrow(message);
    const slow = splitter();
    expect(() => {
      for (const byte of bytes) slow.take(Buffer.of(byte));
    }).toThrow(message);
  });
});
