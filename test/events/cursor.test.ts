import fc from 'fast-check';
import { expect, test } from 'vitest';
import { channelsFingerprint, cursorChannels, decodeCursor, encodeCursor } from '../../src/events/cursor.ts';
import type { Position } from '../../src/events/event-log.ts';

const channels = (count: number) => cursorChannels(Array.from({ length: count }, (_, i) => `default/client.pump-${i}`));
const encode = (names: readonly string[], positions: readonly Position[]) =>
  encodeCursor(channelsFingerprint(names), positions);

const position = fc.record({ epoch: fc.integer({ min: 0, max: 2 ** 41 }), seq: fc.integer({ min: 0, max: 2 ** 34 }) });

test('a cursor says what was put into it, whatever the order in which its channels are named', () => {
  fc.assert(
    fc.property(fc.array(position, { minLength: 1, maxLength: 5 }), (positions) => {
      const names = channels(positions.length);
      const cursor = encode(names, positions);
      expect(cursor).toMatch(/^[A-Za-z0-9_-]+$/);
      expect(decodeCursor(cursor, [...names].reverse())).toEqual({ kind: 'positions', positions });
    }),
  );
});

test('a cursor of 16 channels in one epoch has at most 128 characters, and loses nothing', () => {
  const positions = Array.from({ length: 16 }, (_, i) => ({ epoch: 4e12, seq: 2 ** 34 + i }));
  const cursor = encode(channels(16), positions);
  expect(cursor.length).toBeLessThanOrEqual(128);
  expect(decodeCursor(cursor, channels(16))).toEqual({ kind: 'positions', positions });
});

test('a cursor of 16 channels has at most 128 characters whatever their epochs: what has no room is given up, not falsified', () => {
  const epoch = fc.integer({ min: 2, max: 2 ** 41 });
  const one = fc.record({ epoch, seq: fc.integer({ min: 0, max: 2 ** 34 }) });
  fc.assert(
    fc.property(fc.array(one, { minLength: 16, maxLength: 16 }), (positions) => {
      const cursor = encode(channels(16), positions);
      expect(cursor.length).toBeLessThanOrEqual(128);
      const decoded = decodeCursor(cursor, channels(16));
      if (decoded.kind !== 'positions') throw new Error(decoded.kind);
      for (const [i, found] of decoded.positions.entries())
        expect([positions[i], { epoch: 1, seq: 0 }]).toContainEqual(found);
    }),
  );
});

test('a cursor of other channels is foreign, also when there are as many', () => {
  const cursor = encode(channels(2), [
    { epoch: 5, seq: 1 },
    { epoch: 5, seq: 2 },
  ]);
  expect(decodeCursor(cursor, channels(3))).toEqual({ kind: 'foreign' });
  expect(decodeCursor(cursor, ['other/client.pump-0', 'other/client.pump-1'])).toEqual({ kind: 'foreign' });
});

test('text that is no cursor is malformed or foreign, and never throws', () => {
  const cursor = encode(channels(1), [{ epoch: 5, seq: 1 }]);
  for (const text of [
    '',
    'x',
    `${cursor}AA`,
    cursor.slice(0, -2),
    `${cursor}=`,
    ' ',
    '\0',
    '€'.repeat(20),
    'A'.repeat(9000),
  ])
    expect(decodeCursor(text, channels(1)).kind).toBe('malformed');
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String(),
        fc
          .uint8Array({ maxLength: 40 })
          .map((bytes) => Buffer.from([1, ...channelsFingerprint(channels(2)), ...bytes]).toString('base64url')),
      ),
      (text) => {
        const decoded = decodeCursor(text, channels(2));
        if (decoded.kind === 'positions')
          for (const { epoch, seq } of decoded.positions)
            expect(Number.isSafeInteger(epoch) && Number.isSafeInteger(seq) && epoch >= 0).toBe(true);
      },
    ),
  );
});
