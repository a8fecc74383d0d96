import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import type { EventLog } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { watchEvents } from '../../src/events/watch-events.ts';
import { virtualClock } from '../../src/testing/index.ts';

/** A log that can be away, as one over a network. */
function distantLog() {
  const memory = memoryEventLog();
  const at = { error: undefined as HubError | undefined, asked: 0 };
  const ask = async <T>(answer: () => T): Promise<T> => {
    at.asked++;
    if (at.error) throw at.error;
    return answer();
  };
  const log: EventLog = {
    epoch: memory.epoch,
    append: (...args) => memory.append(...args),
    read: (...args) => ask(() => memory.read(...args)) as ReturnType<EventLog['read']>,
    end: (...args) => ask(() => memory.end(...args)) as ReturnType<EventLog['end']>,
    watch: (...args) => memory.watch(...args),
    recallCommands: () => undefined,
    beginCommand: () => undefined,
    isOpen: () => false,
    lastFrom: (...args) => memory.lastFrom(...args),
    close: () => memory.close(),
  };
  return { log, at };
}

const tick = (log: EventLog, n: number) =>
  void log.append('t/a', { type: 'tick', atMs: 0, data: { n }, durable: false });
const away = new HubError('unavailable', 'no Redis', { retryAfterMs: 1000 });

test('a log that is away is waited for, and nothing is missed', async () => {
  const clock = virtualClock();
  const { log, at } = distantLog();
  const watching = watchEvents(log, { channels: ['t/a'], from: 'start', clock });
  tick(log, 1);
  expect((await watching.next()).value?.event.dataJson()).toBe('{"n":1}');
  at.error = away;
  tick(log, 2);
  const next = watching.next();
  await clock.advance(3500);
  // Once a second, not more often.
  expect(at.asked).toBeLessThan(10);
  at.error = undefined;
  await clock.advance(1000);
  expect((await next).value?.event.dataJson()).toBe('{"n":2}');
  await watching.return?.();
  expect(clock.pending).toBe(0);
});

test('a log that is away when the watching begins is asked again where it ends, for each channel', async () => {
  const clock = virtualClock();
  const { log, at } = distantLog();
  tick(log, 1);
  at.error = away;
  const watching = watchEvents(log, { channels: ['t/a', 't/b', 't/c'], clock });
  const next = watching.next();
  await clock.advance(1500);
  at.error = undefined;
  await clock.advance(5000);
  tick(log, 2);
  expect((await next).value?.event.dataJson()).toBe('{"n":2}');
  await watching.return?.();
});

test('who stops watching a log that is away does not wait for it', async () => {
  const clock = virtualClock();
  const { log, at } = distantLog();
  at.error = away;
  const stop = new AbortController();
  const next = watchEvents(log, { channels: ['t/a'], from: 'start', clock, signal: stop.signal }).next();
  await clock.advance(10);
  stop.abort();
  expect(await next).toMatchObject({ done: true });
  expect(clock.pending).toBe(0);
});

test('a log that cannot be read, and does not say when, ends the watching', async () => {
  for (const error of [new HubError('unavailable', 'the log is closed'), new HubError('internal', 'damaged')]) {
    const { log, at } = distantLog();
    at.error = error;
    await expect(watchEvents(log, { channels: ['t/a'], from: 'start' }).next()).rejects.toBe(error);
  }
});
