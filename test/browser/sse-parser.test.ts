import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type SseMessage, SseParser } from '../../src/browser/sse-parser.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function parse(text: string, onRetry: (ms: number) => void = () => undefined): SseMessage[] {
  return new SseParser({ onRetry }).feed(bytes(text));
}

/** The same bytes in pieces that end at `cuts`. */
function parseInPieces(all: Uint8Array, cuts: readonly number[]): SseMessage[] {
  const parser = new SseParser();
  const ends = [...new Set(cuts.map((cut) => cut % (all.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].flatMap((start, index) => parser.feed(all.subarray(start, ends[index] ?? all.length)));
}

describe('the parser of event streams', () => {
  test('takes CR, LF and CRLF as the end of a line, mixed as they come', () => {
    expect(parse('data: a\rdata: b\n\r\ndata: c\r\n\r\n')).toEqual([
      { id: '', event: 'message', data: 'a\nb' },
      { id: '', event: 'message', data: 'c' },
    ]);
  });

  test('skips one BOM at the start, and only there', () => {
    expect(parse('\uFEFFdata: a\n\n\uFEFFdata: b\n\n')).toEqual([{ id: '', event: 'message', data: 'a' }]);
  });

  test('takes away one space after the colon, and no more', () => {
    expect(parse('data:a\n\ndata:  b\n\ndata\n\n').map(({ data }) => data)).toEqual(['a', ' b', '']);
  });

  test('skips comments and fields it does not know', () => {
    expect(parse(':\n\n: keepalive\ncolour: red\ndata: a\n\n')).toEqual([{ id: '', event: 'message', data: 'a' }]);
  });

  test('keeps the id over events, tells of an id that comes alone, and takes none with a NUL', () => {
    expect(parse('id: 1\n\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n')).toEqual([
      { id: '1', event: 'message', data: undefined },
      { id: '1', event: 'message', data: 'a' },
      { id: '1', event: 'message', data: 'b' },
      { id: '', event: 'message', data: 'c' },
    ]);
  });

  test('forgets the name of an event that had no data', () => {
    expect(parse('event: lost\n\ndata: a\n\n')).toEqual([{ id: '', event: 'message', data: 'a' }]);
  });

  test('takes digits alone as the time to wait before connecting again', () => {
    const heard: number[] = [];
    parse('retry: 1500\nretry: 1e3\nretry: -1\nretry\n\n', (ms) => heard.push(ms));
    expect(heard).toEqual([1500]);
  });

  test('gives no event that was cut off', () => {
    expect(parse('data: a\n\ndata: b\n')).toEqual([{ id: '', event: 'message', data: 'a' }]);
  });

  test('does not collect an event without end', () => {
    const parser = new SseParser({ maxEventLength: 1000 });
    expect(() => {
      for (let count = 0; count < 100; count += 1) parser.feed(bytes('data: 0123456789\n'));
    }).toThrow(/more than 1000/);
    const line = new SseParser({ maxEventLength: 1000 });
    expect(() => {
      for (let count = 0; count < 1000; count += 1) line.feed(bytes('data: 0123456789'));
    }).toThrow(/more than 1000/);
  });

  test('gives the same events wherever the bytes are split', () => {
    const line = fc.oneof(
      fc.constantFrom(
        'data: x',
        'data:',
        'data',
        ':',
        ': hi',
        'id: 7',
        'id',
        'event: tick',
        'retry: 10',
        'colour: red',
      ),
      fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => `data: ${text.replace(/[\r\n]/g, '')}`),
      fc.string({ unit: 'binary', maxLength: 12 }),
    );
    const end = fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n');
    const stream = fc
      .tuple(fc.constantFrom('', '\uFEFF'), fc.array(fc.tuple(line, end), { maxLength: 20 }))
      .map(([bom, lines]) => bytes(bom + lines.map((pair) => pair.join('')).join('')));
    fc.assert(
      fc.property(stream, fc.array(fc.nat(500), { maxLength: 30 }), (all, cuts) => {
        expect(parseInPieces(all, cuts)).toEqual(new SseParser().feed(all));
      }),
      { numRuns: 500 },
    );
  });
});
