import { expect, test } from 'vitest';
import { EventReader } from '../../src/events/event-reader.ts';
import { EventTail } from '../../src/events/event-tail.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { newEvent, numberOf, pollAll, readAll } from '../contracts/event-log.ts';

/** A clock that stands still until it is told how late it is. */
function handClock() {
  let now = 1_000_000;
  let timers: { at: number; run: () => void }[] = [];
  return {
    now: () => now,
    monotonic: () => now,
    after(ms: number, run: () => void) {
      const timer = { at: now + ms, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    pass(ms: number) {
      now += ms;
      const due = timers.filter(({ at }) => at <= now);
      timers = timers.filter(({ at }) => at > now);
      for (const { run } of due) run();
    },
    get timers() {
      return timers.length;
    },
  };
}

test('events that are too old go in the background, and their readers are told', async () => {
  const clock = handClock();
  const log = memoryEventLog({ clock, maxAgeMs: 60_000 });
  log.append('t/a', newEvent(1));
  log.append('t/command.x', newEvent(1));
  clock.pass(50_000);
  log.append('t/a', newEvent(2));
  clock.pass(20_000);
  const { found, numbers } = await readAll(log, 't/a');
  expect(numbers).toEqual([2]);
  expect(found[0]).toEqual({ kind: 'gap', epoch: log.epoch, from: 1, to: 1 });
  expect((await readAll(log, 't/command.x')).numbers).toEqual([]);
  await log.close();
  expect(clock.timers).toBe(0);
});

test('a source with a wrong clock loses nothing by it', async () => {
  const clock = handClock();
  const log = memoryEventLog({ clock, maxAgeMs: 60_000 });
  log.append('t/a', newEvent(1, { atMs: 0 }));
  log.append('t/a', newEvent(2, { atMs: 2.5e14 }));
  clock.pass(30_000);
  expect((await readAll(log, 't/a')).numbers).toEqual([1, 2]);
  await log.close();
});

test('all channels together stay within the limit of bytes, commands that ended first', () => {
  const tail = new EventTail(1, { maxBytes: 100_000 });
  tail.add(tail.open('t/client.a'), newEvent(1), 'kept');
  for (let i = 0; i < 2000; i++) tail.add(tail.open(`t/command.${i}`), newEvent(i, { bytes: 1000 }), 'kept');
  expect(tail.bytes).toBeLessThanOrEqual(100_000);
  expect(tail.find('t/client.a')?.size).toBe(1);
  for (let i = 0; i < 2000; i++) tail.add(tail.open('t/client.a'), newEvent(i, { bytes: 1000 }), 'kept');
  expect(tail.bytes).toBeLessThanOrEqual(100_000);
  tail.close();
});

test('what encoding adds counts as well', () => {
  const clock = handClock();
  const tail = new EventTail(1, { clock, maxBytes: 100_000, maxAgeMs: 1000_000 });
  for (let i = 0; i < 100; i++) {
    const event = tail.add(tail.open(`t/client.${i}`), newEvent(i, { data: 'x'.repeat(2000) }), 'kept');
    event.json();
  }
  clock.pass(100_000);
  tail.add(tail.open('t/client.a'), newEvent(1), 'kept');
  expect(tail.bytes).toBeLessThanOrEqual(100_000);
  tail.close();
});

test('the number of channels is bounded, of commands and of others', () => {
  const tail = new EventTail(1, { maxChannels: 50 });
  for (let i = 0; i < 500; i++) {
    tail.add(tail.open(`t/command.${i}`), newEvent(i), 'kept');
    tail.add(tail.open(`t/client.${i}`), newEvent(i), 'kept');
  }
  expect(tail.channelCount).toBe(100);
  tail.close();
});

test('a command that runs for long keeps its channel while it speaks', async () => {
  const log = memoryEventLog({ maxChannels: 50 });
  for (let i = 0; i < 1000; i++) {
    log.append(`t/command.${i}`, newEvent(i));
    if (i % 10 === 0) log.append('t/command.long', newEvent(i / 10));
  }
  expect((await readAll(log, 't/command.long')).numbers).toHaveLength(100);
  await log.close();
});

test('a thousand readers of one channel share its pages', async () => {
  const log = memoryEventLog();
  const readers = Array.from({ length: 1000 }, () => new EventReader(log, { channels: ['t/a'] }));
  for (const reader of readers) reader.poll(100);
  for (let n = 1; n <= 10; n++) log.append('t/a', newEvent(n));
  const pages = new Set<unknown>();
  await new Promise((resolve) => setImmediate(resolve));
  for (const reader of readers) pages.add(reader.poll(100));
  expect(pages.size).toBe(1);
  const cursors = new Set(readers.map((reader) => reader.cursor()));
  expect(cursors.size).toBe(1);
  for (const reader of readers) reader.close();
  await log.close();
});

test('an event and its place are the same in every process that reads the cursor', async () => {
  const log = memoryEventLog({ epoch: 77 });
  const reader = new EventReader(log, { channels: ['t/a', 't/b'], from: 'start' });
  log.append('t/a', newEvent(1));
  log.append('t/b', newEvent(2));
  expect((await pollAll(reader)).map(numberOf).sort()).toEqual([1, 2]);
  const again = new EventReader(log, { channels: ['t/b', 't/a', 't/b'], from: reader.cursor() });
  log.append('t/b', newEvent(3));
  expect((await pollAll(again)).map(numberOf)).toEqual([3]);
  expect(again.channels).toEqual(['t/a', 't/b']);
  reader.close();
  again.close();
  await log.close();
});

test('nothing is seen before an earlier event of its channel is stored, and a lost one leaves a gap', () => {
  const tail = new EventTail(7);
  const channel = tail.open('t/a');
  const pending = [1, 2, 3].map((n) => tail.add(channel, newEvent(n), 'pending'));
  tail.add(channel, newEvent(4), 'kept');
  const seen = () => tail.read('t/a', { epoch: 7, seq: 0 }, 10).events.map(numberOf);
  tail.settle(channel, pending[1]!.seq, 'kept');
  expect(seen()).toEqual([]);
  tail.settle(channel, pending[0]!.seq, 'kept');
  expect(seen()).toEqual([1, 2]);
  tail.settle(channel, pending[2]!.seq, 'lost');
  expect(seen()).toEqual([1, 2]);
  expect(tail.read('t/a', { epoch: 7, seq: 2 }, 10)).toMatchObject({
    gap: { kind: 'gap', epoch: 7, from: 3, to: 3 },
    events: [{ seq: 4 }],
    atEnd: true,
  });
  tail.close();
});
