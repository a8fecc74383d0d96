import { expect, test } from 'vitest';
import { channelKey } from '../../src/events/channels.ts';
import type { EventPage } from '../../src/events/event-log.ts';
import { EventReader } from '../../src/events/event-reader.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';

test('a wake-up that comes while a slow log is being read is not forgotten', async () => {
  const channel = channelKey('default', 'client.a');
  const log = memoryEventLog();
  const read = log.read.bind(log);
  let answer: (() => void) | undefined;
  // Reads the log as it is now, and tells it later, as a disk does.
  log.read = (...args) => {
    const page = read(...args) as EventPage;
    return new Promise((resolve) => {
      answer = () => resolve(page);
    });
  };
  const reader = new EventReader(log, { channels: [channel], from: 'start' });
  const first = reader.poll(10);
  await new Promise((resolve) => setImmediate(resolve));
  void log.append(channel, { type: 'late', atMs: 0, data: 1, durable: false });
  await new Promise((resolve) => setImmediate(resolve));
  answer!();
  // Whatever the first read has told: somebody who goes on polling finds the event.
  const found = Promise.resolve(first).then(async (events) => {
    if (events.length > 0) return events;
    return reader.mayHaveMore ? reader.poll(10) : [];
  });
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    answer!();
  }
  expect((await found).map(({ type }) => type)).toEqual(['late']);
  reader.close();
  await log.close();
});
