import { expect, test } from 'vitest';
import { rig, watch } from './support.ts';

const seqs = (events: { data: string }[]) =>
  events.filter(({ data }) => data !== '').map(({ data }) => JSON.parse(data).seq);

test('a stream begins at once with a retry time, a comment and an id to come back with', async () => {
  await using at = await rig();
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  expect(reader.response.status).toBe(200);
  expect(Object.fromEntries(reader.response.headers)).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
  });
  const first = await reader.next();
  expect(first).toMatchObject({ retry: 2000, comments: ['signalbox'], data: '' });
  expect(first!.id).toMatch(/^[A-Za-z0-9._~-]{1,128}$/);
  reader.leave();
});

test('an event reaches a watcher with its name, its id and one line of JSON', async () => {
  await using at = await rig();
  const reader = await watch(`${at.url}/v1/events?channel=client.pump-7`);
  await reader.next();
  at.append('client.pump-7', 'temperature', { celsius: 71 });
  const event = await reader.event();
  expect(event.name).toBe('temperature');
  expect(JSON.parse(event.data)).toMatchObject({
    channel: 'client.pump-7',
    type: 'temperature',
    data: { celsius: 71 },
  });
  reader.leave();
});

test('a watcher that comes back with its last id gets what it missed, once', async () => {
  await using at = await rig();
  const first = await watch(`${at.url}/v1/events?channel=client.pump-7`);
  await first.next();
  for (let i = 0; i < 3; i++) at.append('client.pump-7', 'tick', i);
  await first.event();
  const { id } = await first.event();
  first.leave();
  for (let i = 3; i < 6; i++) at.append('client.pump-7', 'tick', i);
  const again = await watch(`${at.url}/v1/events?channel=client.pump-7&last_event_id=nonsense`, {
    headers: { 'last-event-id': id },
  });
  const events = [];
  for (let i = 0; i < 4; i++) events.push(await again.event());
  expect(seqs(events)).toEqual([3, 4, 5, 6]);
  again.leave();
});
