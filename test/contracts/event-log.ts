import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { EventLog, EventPage, LogEvent, NewEvent, Position } from '../../src/events/event-log.ts';
import { EventReader } from '../../src/events/event-reader.ts';
import type { EventTailOptions } from '../../src/events/event-tail.ts';
import { GapNotice } from '../../src/events/gap-notice.ts';
import { watchEvents } from '../../src/events/watch-events.ts';

export const start: Position = { epoch: 0, seq: 0 };

export function newEvent(n: number, changes: Partial<NewEvent> = {}): NewEvent {
  return { type: 'temperature', atMs: 1000 + n, data: { n }, durable: false, ...changes };
}

/** The `n` of an event made by `newEvent`. */
export const numberOf = (event: LogEvent): number => JSON.parse(event.dataJson()).n;

/** Everything after a position, with the gaps in their places. */
export async function readAll(log: EventLog, channel: string, from: Position = start, limit = 100) {
  const found: (LogEvent | NonNullable<EventPage['gap']>)[] = [];
  let position = from;
  for (let turns = 0; turns < 10_000; turns++) {
    const page = await log.read(channel, position, limit);
    if (page.gap) found.push(page.gap);
    found.push(...page.events);
    position = page.next;
    if (page.atEnd)
      return { found, numbers: found.flatMap((item) => ('seq' in item ? [numberOf(item)] : [])), position };
  }
  throw new Error('the log has no end');
}

/** Everything that a reader gets until it has to wait. */
export async function pollAll(reader: EventReader, pageSize = 50): Promise<LogEvent[]> {
  const events: LogEvent[] = [];
  // Wake-ups come with the next turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  for (let turns = 0; turns < 10_000 && (reader.mayHaveMore || turns === 0); turns++)
    events.push(...(await reader.poll(pageSize)));
  return events;
}

/**
 * Throws unless what a subscriber saw of one channel is the source, or says where it is not: no event twice, none out of
 * order, and a notice at each hole. `mustHave` are numbers that no notice excuses.
 */
export function checkSequence(seen: readonly LogEvent[], from: number, to: number, mustHave = new Set<number>()): void {
  let expected = from;
  let isExcused = false;
  // A reset speaks for everything before the epoch that it names.
  let resetBefore = 0;
  const miss = (until: number) => {
    if (until > expected && !isExcused) throw new Error(`${expected} to ${until - 1} are missing without a word`);
    for (let n = expected; n < until; n++) if (mustHave.has(n)) throw new Error(`${n} is lost`);
  };
  for (const event of seen) {
    if (event instanceof GapNotice) {
      isExcused = true;
      if (event.gap.kind === 'reset') resetBefore = event.epoch;
      continue;
    }
    const n = numberOf(event);
    if (n < expected) throw new Error(`${n} came again after ${expected - 1}`);
    miss(n);
    expected = n + 1;
    isExcused = event.epoch < resetBefore;
  }
  miss(to + 1);
}

/** What every `EventLog` has to do. `open` makes an empty one. */
export function eventLogContract(
  name: string,
  open: (memory?: EventTailOptions) => Promise<{ log: EventLog; close(): Promise<void> }>,
  /** `isShared`: other processes read it, so that data is made when it is appended. */
  { isShared = false }: { isShared?: boolean } = {},
): void {
  describe(`EventLog: ${name}`, () => {
    const closers: (() => Promise<void>)[] = [];
    const opened = async (memory?: EventTailOptions) => {
      const { log, close } = await open(memory);
      closers.push(close);
      return log;
    };
    const fill = (log: EventLog, channel: string, from: number, to: number, changes?: Partial<NewEvent>) =>
      Promise.all(Array.from({ length: to - from + 1 }, (_, i) => log.append(channel, newEvent(from + i, changes))));
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });

    test('events are numbered without holes and read in pages from any position', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 5);
      await log.append('t/b', newEvent(1));
      const first = await log.read('t/a', { epoch: log.epoch, seq: 0 }, 2);
      expect(first.events.map(({ seq }) => seq)).toEqual([1, 2]);
      expect(first).toMatchObject({ next: { epoch: log.epoch, seq: 2 }, atEnd: false, gap: undefined });
      const rest = await log.read('t/a', first.next, 100);
      expect(rest.events.map(({ seq }) => seq)).toEqual([3, 4, 5]);
      expect(rest).toMatchObject({ next: { epoch: log.epoch, seq: 5 }, atEnd: true, gap: undefined });
      expect(await log.end('t/a')).toEqual(rest.next);
      expect((await log.read('t/a', rest.next, 100)).events).toEqual([]);
    });

    test('an event is one line of JSON under the name of its channel', async () => {
      const log = await opened();
      await log.append('t/client.pump-7', newEvent(1, { data: { note: 'a\nb\u2028"' }, atMs: 0, durable: true }));
      const [event] = (await log.read('t/client.pump-7', start, 1)).events;
      expect(event?.json()).not.toMatch(/[\n\r]/);
      expect(JSON.parse(event!.json())).toEqual({
        channel: 'client.pump-7',
        epoch: log.epoch,
        seq: 1,
        type: 'temperature',
        at: '1970-01-01T00:00:00.000Z',
        data: { note: 'a\nb\u2028"' },
      });
      expect(event).toMatchObject({ channel: 't/client.pump-7', atMs: 0 });
    });

    test.skipIf(isShared)('data of a volatile event is made once, when it is first read', async () => {
      const log = await opened();
      let made = 0;
      log.append('t/a', newEvent(1, { data: () => ({ made: ++made }) }));
      log.append('t/a', newEvent(2, { data: () => ({ made: ++made }) }));
      const [event] = (await log.read('t/a', start, 1)).events;
      expect(made).toBe(0);
      expect([event?.dataJson(), event?.json().includes('"made":1'), event?.dataJson()]).toEqual([
        '{"made":1}',
        true,
        '{"made":1}',
      ]);
      expect(made).toBe(1);
    });

    test('data that is no JSON does not make its readers fall', async () => {
      const log = await opened();
      log.append('t/a', newEvent(1, { data: () => 1n }));
      log.append('t/a', newEvent(2, { data: undefined, atMs: Number.NaN }));
      const { events } = await log.read('t/a', start, 10);
      expect(JSON.parse(events[0]!.json()).data).toHaveProperty('unreadable');
      expect(JSON.parse(events[1]!.json()).data).toBeNull();
    });

    test('a volatile event is there at once, a durable one when its promise resolves, and never before an earlier one', async () => {
      const log = await opened();
      expect(log.append('t/a', newEvent(1))).toBeUndefined();
      expect((await log.read('t/a', start, 10)).events).toHaveLength(1);
      const stored = log.append('t/a', newEvent(2, { durable: true }));
      log.append('t/a', newEvent(3));
      expect([1, 3]).toContain((await log.end('t/a')).seq);
      await stored;
      expect((await readAll(log, 't/a')).numbers).toEqual([1, 2, 3]);
    });

    test.skipIf(isShared)('readers at the same place share events', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 3);
      const [one] = (await log.read('t/a', start, 10)).events;
      const [other] = (await log.read('t/a', { epoch: log.epoch, seq: 0 }, 10)).events;
      expect(other).toBe(one);
    });

    test('watchers are woken once for many events, and not after they let go', async () => {
      const log = await opened();
      let wakes = 0;
      let woken = Promise.withResolvers<void>();
      const release = log.watch('t/a', () => {
        wakes++;
        woken.resolve();
      });
      for (let n = 1; n <= 100; n++) log.append('t/a', newEvent(n));
      log.append('t/b', newEvent(1));
      await woken.promise;
      expect(wakes).toBe(1);
      expect((await readAll(log, 't/a')).numbers).toHaveLength(100);
      woken = Promise.withResolvers();
      await log.append('t/a', newEvent(101, { durable: true }));
      await woken.promise;
      expect(wakes).toBe(2);
      release();
      release();
      log.append('t/a', newEvent(102));
      await new Promise((resolve) => setImmediate(resolve));
      expect(wakes).toBe(2);
    });

    test('an event that its producer sends again is kept once', async () => {
      const log = await opened();
      const send = (n: number, seq: number, id = 'boot-1', durable = true) =>
        log.append('t/a', newEvent(n, { durable, producer: { id, seq } }));
      await Promise.all([send(1, 1), send(2, 2), send(1, 1), send(2, 2)]);
      await send(2, 2);
      await send(3, 3);
      await send(4, 1, 'boot-2');
      send(5, 4, 'boot-1', false);
      send(5, 4, 'boot-1', false);
      expect((await readAll(log, 't/a')).numbers).toEqual([1, 2, 3, 4, 5]);
      expect(await log.lastFrom('t/a', 'boot-2')).toBe(1);
      expect(await log.lastFrom('t/a', 'boot-1')).toBe(4);
      expect(await log.lastFrom('t/a', 'boot-3')).toBe(0);
      expect(await log.lastFrom('t/b', 'boot-1')).toBe(0);
    });

    test('volatile events that the ring dropped are told as a gap', async () => {
      const log = await opened({ ringEvents: 3 });
      await fill(log, 't/a', 1, 10);
      const { found, numbers } = await readAll(log, 't/a', { epoch: log.epoch, seq: 2 });
      expect(found[0]).toEqual({ kind: 'gap', epoch: log.epoch, from: 3, to: 7 });
      expect(numbers).toEqual([8, 9, 10]);
      expect((await readAll(log, 't/a')).found[0]).toEqual({ kind: 'gap', epoch: log.epoch, from: 1, to: 7 });
    });

    test('the ring is bounded in bytes, by what its producer says and by what encoding shows', async () => {
      const log = await opened({ ringBytes: 10_000 });
      await fill(log, 't/a', 1, 20, { bytes: 4000 });
      // Where data is made at once, what it is said to hold on to does not matter.
      if (!isShared) expect((await readAll(log, 't/a')).numbers.length).toBeLessThanOrEqual(2);
      for (let n = 1; n <= 20; n++) {
        log.append('t/b', newEvent(n, { data: { n, text: 'x'.repeat(3000) } }));
        (await log.read('t/b', start, 100)).events.map((event) => event.json());
      }
      expect((await readAll(log, 't/b')).numbers.length).toBeLessThanOrEqual(3);
    });

    test('a position that nobody can have is answered with a reset and what is kept', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 3);
      for (const position of [
        { epoch: log.epoch, seq: 4 },
        { epoch: log.epoch + 1, seq: 0 },
      ]) {
        const { found, numbers } = await readAll(log, 't/a', position);
        expect(found[0]).toEqual({ kind: 'reset', reason: 'unknown-position' });
        expect(numbers).toEqual([1, 2, 3]);
      }
      const { found, numbers } = await readAll(log, 't/a', { epoch: 7, seq: 1 });
      expect(found[0]).toMatchObject({ kind: 'reset' });
      expect(numbers).toEqual([1, 2, 3]);
      expect((await readAll(log, 't/nobody', { epoch: log.epoch, seq: 9 })).found[0]).toMatchObject({ kind: 'reset' });
    });

    test('channels are forgotten oldest first, and a position of one that came back is not mistaken', async () => {
      const log = await opened({ maxChannels: 10 });
      for (const n of [1, 2, 3]) log.append('t/command.first', newEvent(n));
      const position = { epoch: log.epoch, seq: 3 };
      for (let i = 0; i < 100; i++) log.append(`t/command.${i}`, newEvent(i));
      expect((await readAll(log, 't/command.first', position)).found.length).toBeGreaterThan(0);
      for (const n of [4, 5, 6]) log.append('t/command.first', newEvent(n));
      const { found, numbers } = await readAll(log, 't/command.first', position);
      expect(found[0]).toHaveProperty('kind');
      expect(numbers).toEqual([4, 5, 6]);
      expect((await readAll(log, 't/command.99')).numbers).toEqual([99]);
    });

    test('channels that are watched are not forgotten', async () => {
      const log = await opened({ maxChannels: 10 });
      const reader = new EventReader(log, { channels: ['t/command.first'], from: 'start' });
      log.append('t/command.first', newEvent(1));
      for (let i = 0; i < 100; i++) log.append(`t/command.${i}`, newEvent(i));
      log.append('t/command.first', newEvent(2));
      expect((await pollAll(reader)).map(numberOf)).toEqual([1, 2]);
      reader.close();
    });

    test('a watcher sees what was kept and what happens, in one stream', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 3);
      const seen: number[] = [];
      let cursor = '';
      for await (const watched of watchEvents(log, { channels: ['t/a', 't/b'], from: 'start', pageSize: 2 })) {
        seen.push(numberOf(watched.event));
        cursor = watched.cursor;
        if (seen.length === 3) void fill(log, 't/a', 4, 6, { durable: true });
        if (seen.length === 5) break;
      }
      expect(seen).toEqual([1, 2, 3, 4, 5]);
      for await (const { event } of watchEvents(log, { channels: ['t/b', 't/a'], from: cursor })) {
        expect(numberOf(event)).toBe(6);
        break;
      }
    });

    test('a watcher without a cursor sees only what happens from now on', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 3);
      const stop = new AbortController();
      const watching = watchEvents(log, { channels: ['t/a'], signal: stop.signal });
      await fill(log, 't/a', 4, 5);
      const seen: number[] = [];
      for await (const { event } of watching) {
        seen.push(numberOf(event));
        if (seen.length === 2) stop.abort();
      }
      expect(seen).toEqual([4, 5]);
    });

    test('a watcher that waits ends when it is aborted, or when somebody calls return', async () => {
      const log = await opened();
      const stop = new AbortController();
      const waiting = watchEvents(log, { channels: ['t/a'], signal: stop.signal }).next();
      stop.abort();
      expect(await waiting).toMatchObject({ done: true });
      const iterator = watchEvents(log, { channels: ['t/a'] });
      const next = iterator.next();
      await iterator.return?.();
      expect(await next).toMatchObject({ done: true });
      const aborted = watchEvents(log, { channels: ['t/a'], signal: AbortSignal.abort() });
      expect(await aborted.next()).toMatchObject({ done: true });
    });

    test('a reader with a cursor of other channels, or no cursor at all, is told so and gets all that is kept', async () => {
      const log = await opened();
      await fill(log, 't/a', 1, 2);
      const other = new EventReader(log, { channels: ['t/b'], from: 'start' });
      for (const from of [other.cursor(), '', 'garbage!', 'AAAAAAAAAAAA', 'x'.repeat(8192)]) {
        const reader = new EventReader(log, { channels: ['t/a'], from });
        const [notice, ...events] = await pollAll(reader);
        expect(notice?.type).toBe('hub.reset');
        expect(JSON.parse(notice!.dataJson())).toEqual({ reason: 'unknown-position' });
        expect(events.map(numberOf)).toEqual([1, 2]);
        reader.close();
      }
      other.close();
    });

    test('a busy channel does not hide a quiet one', async () => {
      const log = await opened();
      await fill(log, 't/busy', 1, 500);
      await fill(log, 't/quiet', 1, 1);
      const reader = new EventReader(log, { channels: ['t/busy', 't/quiet'], from: 'start' });
      const channels = [...(await reader.poll(10)), ...(await reader.poll(10))].map(({ channel }) => channel);
      expect(channels).toContain('t/quiet');
      reader.close();
    });

    test('a reader is woken once after it came to the end', async () => {
      const log = await opened();
      let wakes = 0;
      const woken = Promise.withResolvers<void>();
      const channels = ['t/a', 't/b'];
      const onWake = () => {
        wakes++;
        woken.resolve();
      };
      const reader = new EventReader(log, { channels, onWake });
      expect(await pollAll(reader)).toEqual([]);
      // Durable ones are there once they are appended, wherever the log keeps them.
      await fill(log, 't/a', 1, 5, { durable: true });
      await fill(log, 't/b', 1, 5, { durable: true });
      await woken.promise;
      await new Promise((resolve) => setImmediate(resolve));
      expect(wakes).toBe(1);
      expect(await pollAll(reader)).toHaveLength(10);
      reader.close();
    });

    test('whatever is appended and whenever they are cut, subscribers see the source or a notice', async () => {
      const step = fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            kind: fc.constant('append' as const),
            channel: fc.nat(2),
            count: fc.integer({ min: 1, max: 6 }),
            durable: fc.boolean(),
          }),
        },
        {
          weight: 3,
          arbitrary: fc.record({
            kind: fc.constant('read' as const),
            polls: fc.integer({ min: 1, max: 3 }),
            size: fc.integer({ min: 1, max: 7 }),
          }),
        },
        { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
        { weight: 1, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { maxLength: 40 }),
          fc.integer({ min: 1, max: 8 }),
          async (steps, ringEvents) => {
            const { log, close } = await open({ ringEvents });
            const channels = ['t/a', 't/command.b', 't/c'];
            const seen = new Map<string, LogEvent[]>(channels.map((channel) => [channel, []]));
            const last = new Map<string, number>();
            const writes: Promise<void>[] = [];
            let reader = new EventReader(log, { channels, from: 'start' });
            const take = (events: readonly LogEvent[]) => {
              for (const event of events) seen.get(event.channel)!.push(event);
            };
            for (const now of steps) {
              if (now.kind === 'append') {
                const channel = channels[now.channel]!;
                for (let i = 0; i < now.count; i++) {
                  const n = (last.get(channel) ?? 0) + 1;
                  last.set(channel, n);
                  const write = log.append(channel, newEvent(n, { durable: now.durable }));
                  if (write) writes.push(write);
                }
              } else if (now.kind === 'read') {
                for (let i = 0; i < now.polls; i++) take(await reader.poll(now.size));
              } else if (now.kind === 'cut') {
                const cursor = reader.cursor();
                expect(cursor.length).toBeLessThanOrEqual(128);
                reader.close();
                reader = new EventReader(log, { channels, from: cursor });
              } else await Promise.all(writes);
            }
            await Promise.all(writes);
            // Volatile events are visible at once, or soon.
            if (isShared) await Promise.all(channels.map((channel) => log.lastFrom(channel, 'nobody')));
            take(await pollAll(reader, 3));
            for (const channel of channels) checkSequence(seen.get(channel)!, 1, last.get(channel) ?? 0);
            await close();
          },
        ),
        { numRuns: 40 },
      );
    });

    test('a closed log refuses', async () => {
      const { log, close } = await open();
      await close();
      await expect((async () => log.append('t/a', newEvent(1, { durable: true })))()).rejects.toMatchObject({
        code: 'unavailable',
      });
    });
  });
}
