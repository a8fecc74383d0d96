import { expect, test } from 'vitest';
import { foreignData } from '../../src/events/foreign-data.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { footprint } from '../support/footprint.ts';

const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

test.each([
  ['{broken', "json is not JSON: Expected property name or '}' in JSON at position 1 (line 1 column 2)"],
  [nested(66), 'json is nested more than 64 levels deep'],
  [nested(400_000), 'json is nested more than 64 levels deep'],
  [`{"a":{"b":${nested(100)}}}`, 'json is nested more than 64 levels deep'],
])('%.20s is refused', (json, message) => {
  expect(() => foreignData(json)).toThrow(expect.objectContaining({ code: 'invalid-argument', message }));
});

test('what is not too deep is read, long or short, and nothing at all is null', () => {
  const read = (json: string): unknown => {
    const { data } = foreignData(json);
    return typeof data === 'function' ? data() : data;
  };
  expect(read('')).toBe(null);
  expect(read('{"a":[1]}')).toEqual({ a: [1] });
  expect(read(nested(64))).toEqual(JSON.parse(nested(64)));
  expect(read(JSON.stringify('x'.repeat(5000)))).toBe('x'.repeat(5000));
});

test('large events that nobody has read yet count with their size, and weigh no more', () => {
  const log = memoryEventLog();
  const json = `[${'{},'.repeat(100_000)}0]`;
  const before = footprint().bytes;
  for (let n = 0; n < 200; n++) log.append('t/a', { type: 'large', atMs: 0, durable: false, ...foreignData(json) });
  // 60 MB of text came, and 5 GB of objects would have been made of it; the channel keeps 1 MiB.
  expect((footprint().bytes - before) / 2 ** 20).toBeLessThan(10);
  void log.close();
});
