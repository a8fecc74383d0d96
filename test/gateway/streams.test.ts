import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import type { Authenticator } from '../../src/auth/principal.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import type { GatewayFact } from '../../src/gateway/index.ts';
import { virtualClock } from '../../src/testing/index.ts';
import { eventually } from '../support/eventually.ts';
import { rig, type SseReader, succeed, updateOf, watch } from './support.ts';

const take = async (reader: SseReader, count: number) => {
  const events = [];
  while (events.length < count) events.push(await reader.event());
  return events;
};
const dataOf = (events: { data: string }[]) => events.map(({ data }) => JSON.parse(data).data);

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
  expect(first!.id).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
  reader.leave();
});

test('an event reaches a watcher with its name, its id and one line of JSON', async () => {
  await using at = await rig();
  const reader = await watch(`${at.url}/v1/clients/pump-7/events`);
  const opening = await reader.next();
  at.append('client.pump-7', 'temperature', { celsius: 71 });
  const event = await reader.event();
  expect(event.name).toBe('temperature');
  expect(event.id).not.toBe(opening!.id);
  expect(JSON.parse(event.data)).toMatchObject({
    channel: 'client.pump-7',
    type: 'temperature',
    data: { celsius: 71 },
  });
  reader.leave();
});

test('a watcher that comes back with its last id gets what it missed, once; the header wins over the URL', async () => {
  await using at = await rig();
  const url = `${at.url}/v1/events?channel=client.pump-7`;
  const first = await watch(url);
  const opening = await first.next();
  for (let i = 0; i < 3; i++) at.append('client.pump-7', 'tick', i);
  const [, second] = await take(first, 2);
  first.leave();
  for (let i = 3; i < 6; i++) at.append('client.pump-7', 'tick', i);
  const again = await watch(`${url}&last_event_id=${opening!.id}`, { headers: { 'last-event-id': second!.id } });
  expect(dataOf(await take(again, 4))).toEqual([2, 3, 4, 5]);
  again.leave();
  const byUrl = await watch(`${url}&last_event_id=${opening!.id}`);
  expect(dataOf(await take(byUrl, 6))).toEqual([0, 1, 2, 3, 4, 5]);
  byUrl.leave();
});

test('a stream over many channels resumes each of them where it was', async () => {
  await using at = await rig();
  const names = Array.from({ length: 16 }, (_, i) => `client.c${i}`);
  const url = `${at.url}/v1/events?${names.map((name) => `channel=${name}`).join('&')}`;
  const first = await watch(url);
  await first.next();
  for (const name of names) at.append(name, 'tick', name);
  const before = await take(first, 9);
  const { id } = before.at(-1)!;
  expect(id.length).toBeLessThanOrEqual(128);
  first.leave();
  const again = await watch(url, { headers: { 'last-event-id': id } });
  const after = await take(again, 7);
  expect([...dataOf(before), ...dataOf(after)].sort()).toEqual([...names].sort());
  again.leave();
});

test.each([
  ['empty', '', []],
  ['garbage', 'x'.repeat(100), ['hub.reset']],
  ['8 KB', 'A'.repeat(8_000), ['hub.reset']],
  ['of another channel', 'other', ['hub.reset']],
])('a last event id that is %s is told, never silently ignored', async (_, given, expected) => {
  await using at = await rig();
  let id = given;
  if (given === 'other') {
    const other = await watch(`${at.url}/v1/events?channel=client.other`);
    id = (await other.next())!.id;
    other.leave();
  }
  at.append('fleet', 'before', 1);
  const reader = await watch(`${at.url}/v1/events?channel=fleet`, { headers: { 'last-event-id': id } });
  await reader.next();
  at.append('fleet', 'after', 2);
  const names = [];
  do names.push((await reader.event()).name);
  while (names.at(-1) !== 'after');
  // Who cannot be told what it missed is given all that is kept.
  expect(names).toEqual([...expected, ...(expected.length > 0 ? ['before'] : []), 'after']);
  reader.leave();
});

test('events that are not kept any more are told as a gap, with their numbers', async () => {
  await using at = await rig({ log: memoryEventLog({ ringEvents: 5 }) });
  const url = `${at.url}/v1/events?channel=fleet`;
  const first = await watch(url);
  const { id } = (await first.next())!;
  first.leave();
  for (let i = 0; i < 20; i++) at.append('fleet', 'tick', i);
  const again = await watch(url, { headers: { 'last-event-id': id } });
  const [gap, ...events] = await take(again, 6);
  expect(gap!.name).toBe('hub.gap');
  expect(JSON.parse(gap!.data)).toMatchObject({ channel: 'fleet', from: 1, to: 15 });
  expect(dataOf(events)).toEqual([15, 16, 17, 18, 19]);
  again.leave();
  const once = await watch(url, { headers: { 'last-event-id': gap!.id } });
  expect((await once.event()).name).toBe('tick');
  once.leave();
});

test('a position of a hub that was restarted is told as a reset', async () => {
  const first = await rig({ log: memoryEventLog() });
  const reader = await watch(`${first.url}/v1/events?channel=fleet`);
  const { id } = (await reader.next())!;
  await first[Symbol.asyncDispose]();
  await delay(5); // epochs of memory logs are made of the time
  await using at = await rig();
  const again = await watch(`${at.url}/v1/events?channel=fleet`, { headers: { 'last-event-id': id } });
  const event = await again.event();
  expect(event.name).toBe('hub.reset');
  expect(JSON.parse(event.data)).toEqual({ channel: 'fleet', reason: 'restarted' });
  again.leave();
});

test('line breaks, NUL and byte order marks in data forge no event', async () => {
  await using at = await rig();
  const reader = await watch(`${at.url}/v1/events?channel=client.pump-7`);
  await reader.next();
  const nasty = 'a\rdata: forged\n\nevent: forged\r\n\0\uFEFF\u2028b\rid: 0';
  at.append('client.pump-7', 'note', { note: nasty, [nasty]: 1 });
  at.append('client.pump-7', 'end', null);
  const [note, end] = await take(reader, 2);
  expect(JSON.parse(note!.data).data).toEqual({ note: nasty, [nasty]: 1 });
  expect(end!.name).toBe('end');
  reader.leave();
});

test("an event of type error goes out under its channel's noun, as error is EventSource's own", async () => {
  await using at = await rig();
  const reader = await watch(`${at.url}/v1/events?channel=client.pump-7`);
  await reader.next();
  at.append('client.pump-7', 'error', { code: 'dry' });
  const event = await reader.event();
  expect(event.name).toBe('client.error');
  expect(JSON.parse(event.data).type).toBe('error');
  reader.leave();
});

test('many events and many watchers: everyone gets everything, in order', async () => {
  await using at = await rig({ log: memoryEventLog({ ringEvents: 5_000 }) });
  const readers = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      watch(`${at.url}/v1/events?channel=fleet${i % 2 === 0 ? '' : '&channel=client.pump-7'}`),
    ),
  );
  for (const reader of readers) await reader.next();
  const total = 600;
  for (let i = 0; i < total; i++) {
    at.append('fleet', 'tick', i);
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const expected = Array.from({ length: total }, (_, i) => i);
  for (const reader of readers) {
    expect(dataOf(await take(reader, total))).toEqual(expected);
    reader.leave();
  }
});

test('an event is encoded once for all watchers', async () => {
  await using at = await rig();
  const made = vi.fn(() => ({ big: 'x'.repeat(100) }));
  const readers = await Promise.all(Array.from({ length: 5 }, () => watch(`${at.url}/v1/events?channel=fleet`)));
  for (const reader of readers) await reader.next();
  at.append('fleet', 'tick', made);
  for (const reader of readers) expect((await reader.event()).name).toBe('tick');
  expect(made).toHaveBeenCalledTimes(1);
  for (const reader of readers) reader.leave();
});

test('a quiet stream gets a comment, so that nobody in between takes it for dead', async () => {
  const clock = virtualClock();
  await using at = await rig({ clock });
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  await reader.next();
  const next = reader.next();
  await clock.advance(16_000);
  expect(await next).toMatchObject({ comments: [''], data: '' });
  reader.leave();
});

test('a stream ends when its token does', async () => {
  const clock = virtualClock();
  const authenticator: Authenticator = {
    authenticate: async () => ({
      subject: 'ann',
      tenant: 'default',
      scopes: new Set(['events:read']),
      expiresAtMs: clock.now() + 60_000,
    }),
  };
  await using at = await rig({ clock, authenticator });
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  await reader.next();
  await clock.advance(59_000);
  const rest = reader.rest();
  await clock.advance(2_000);
  expect((await rest).at(-1)).toMatchObject({ name: 'hub.expired', data: '{}' });
});

test('a stream with an idle limit ends after that time without an event', async () => {
  const clock = virtualClock();
  await using at = await rig({ clock, limits: { idleLimitMs: 300_000 } });
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  const rest = reader.rest();
  await eventually(() => expect(at.gateway.openStreams).toBe(1));
  await clock.advance(301_000);
  expect((await rest).at(-1)).toMatchObject({ name: 'hub.idle' });
});

test('drain tells every stream when to come back, ends it, and refuses new ones', async () => {
  await using at = await rig({ random: () => 0.5 });
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  await reader.next();
  const drained = at.gateway.drain({ reconnectAfterMs: 1_000, spreadMs: 4_000 });
  expect(await reader.rest()).toMatchObject([
    { name: 'hub.drain', retry: 3_000, data: '{"reconnectAfterMs":3000,"spreadMs":0}' },
  ]);
  await drained;
  const refused = await fetch(`${at.url}/v1/events?channel=fleet`);
  expect(refused.status).toBe(503);
  expect(await (await fetch(`${at.url}/ready`)).json()).toEqual({ ok: false, reasons: ['draining'] });
});

test('HEAD on a stream gets its headers and takes no watcher', async () => {
  await using at = await rig();
  const response = await fetch(`${at.url}/v1/events?channel=fleet`, { method: 'HEAD' });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toContain('text/event-stream');
  expect(at.gateway.openStreams).toBe(0);
});

test('a browser that leaves gives its place back and cancels nothing', async () => {
  const facts: GatewayFact[] = [];
  await using at = await rig({ observe: (fact) => facts.push(fact) });
  at.hub.script = async function* (command) {
    yield updateOf(command, { state: 'queued' });
    await new Promise(() => undefined);
  };
  const reader = await watch(`${at.url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ type: 't.T', payloadBase64: '' }),
  });
  expect((await reader.event()).name).toBe('command.queued');
  expect(at.gateway.openStreams).toBe(1);
  reader.leave();
  await eventually(() => expect(at.gateway.openStreams).toBe(0));
  expect(facts).toContainEqual(expect.objectContaining({ kind: 'stream-closed', reason: 'left', open: 0 }));
  expect(facts).not.toContainEqual(expect.objectContaining({ kind: 'request-ended' }));
  expect(at.hub.cancelled).toEqual([]);
});

test('streams have a limit in all, and one for each subject', async () => {
  const authenticator: Authenticator = {
    authenticate: async ({ bearer = '' }) => ({ subject: bearer, tenant: 'default', scopes: new Set(['events:read']) }),
  };
  await using at = await rig({ authenticator, limits: { streams: 3, streamsPerSubject: 2 } });
  const open = (bearer: string) =>
    watch(`${at.url}/v1/events?channel=fleet`, { headers: { authorization: `Bearer ${bearer}` } });
  const readers = [await open('ann'), await open('ann')];
  const third = await open('ann');
  expect(third.response.status).toBe(429);
  expect(third.response.headers.get('retry-after')).toBe('5');
  expect(await third.response.status).toBe(429);
  readers.push(await open('bob'));
  expect((await open('cat')).response.status).toBe(429);
  readers[0]!.leave();
  await eventually(() => expect(at.gateway.openStreams).toBe(2));
  readers.push(await open('cat'));
  expect(readers.at(-1)!.response.status).toBe(200);
  for (const reader of readers) reader.leave();
});

test('the stream of a command begins with its first update and ends after the terminal one; then 204', async () => {
  await using at = await rig();
  const sent = await fetch(`${at.url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 't.T', payloadBase64: '' }),
  });
  const { commandId } = (await sent.json()) as { commandId: string };
  const url = `${at.url}/v1/commands/${commandId}/events`;
  const reader = await watch(url);
  const events = (await reader.rest()).filter(({ data }) => data !== '');
  expect(events.map(({ name }) => name)).toEqual(['command.queued', 'command.delivered', 'command.succeeded']);
  const again = await fetch(url, { headers: { 'last-event-id': events.at(-1)!.id } });
  expect(again.status).toBe(204);
  const middle = await watch(url, { headers: { 'last-event-id': events[1]!.id } });
  expect((await middle.rest()).map(({ name, data }) => data && name)).toEqual(['', 'command.succeeded']);
});

test('a command whose updates are gone from the log still ends its stream, from the record, after the word that there was more', async () => {
  await using at = await rig();
  const command = {
    id: 'c-1',
    tenant: 'default',
    clientId: 'pump-7',
    payload: { type: 't.T', value: new Uint8Array() },
    whenOffline: 'queue',
    timeoutMs: 0,
    waitForConnectMs: 0,
    ttlMs: 1000,
    idempotent: false,
  } as const;
  const last = updateOf(command, { state: 'failed', error: { code: 'dry', message: 'no\rwater' } });
  at.hub.records.set('c-1', { command, acceptedAtMs: 1, last });
  const reader = await watch(`${at.url}/v1/commands/c-1/events`);
  const events = (await reader.rest()).filter(({ data }) => data !== '');
  expect(events.map(({ name }) => name)).toEqual(['hub.reset', 'command.failed']);
  expect(JSON.parse(events[1]!.data).data.error).toEqual({ code: 'dry', message: 'no\rwater' });
  const again = await fetch(`${at.url}/v1/commands/c-1/events`, { headers: { 'last-event-id': events[0]!.id } });
  expect(again.status).toBe(204);
});

test('a reader that never reads is parked, costs no memory, and is closed; others notice nothing', async () => {
  const facts: GatewayFact[] = [];
  const limits = { streamBufferBytes: 64 * 1024, stallMs: 400, keepaliveMs: 200 };
  await using at = await rig({ log: memoryEventLog({ ringEvents: 200 }), limits, observe: (fact) => facts.push(fact) });
  const stalled = connect(at.port, '127.0.0.1');
  stalled.pause();
  stalled.on('error', () => undefined);
  stalled.write('GET /v1/events?channel=fleet HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const healthy = await watch(`${at.url}/v1/events?channel=fleet`);
  await eventually(() => expect(at.gateway.openStreams).toBe(2));
  let sent = 0;
  let seen = 0;
  const big = 'x'.repeat(50_000);
  while (!facts.some((fact) => fact.kind === 'stream-closed')) {
    for (let i = 0; i < 10; i++) at.append('fleet', 'tick', { i: sent++, big });
    while (seen < sent) {
      const { data } = await healthy.event();
      expect(JSON.parse(data).data.i).toBe(seen++);
    }
  }
  expect(facts.find((fact) => fact.kind === 'stream-closed')).toMatchObject({ reason: 'stalled', open: 1 });
  expect(sent).toBeGreaterThan(50);
  healthy.leave();
  stalled.destroy();
});

test('a parked reader that reads again gets everything that is kept, in order', async () => {
  await using at = await rig({
    log: memoryEventLog({ ringEvents: 10_000, ringBytes: 2 ** 30 }),
    limits: { streamBufferBytes: 1 },
  });
  const reader = await watch(`${at.url}/v1/events?channel=fleet`);
  const big = 'x'.repeat(20_000);
  for (let i = 0; i < 1_000; i++) {
    at.append('fleet', 'tick', { i, big });
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const events = await take(reader, 1_000);
  expect(dataOf(events).map(({ i }) => i)).toEqual(Array.from({ length: 1_000 }, (_, i) => i));
  reader.leave();
});

test('a stream that is pipelined behind another one writes nothing into it', async () => {
  await using at = await rig();
  const get = 'GET /v1/events?channel=fleet HTTP/1.1\r\nHost: localhost\r\n\r\n';
  let text = '';
  const socket = connect(at.port, '127.0.0.1', () => socket.write(get + get));
  socket.on('data', (chunk) => {
    text += chunk;
  });
  await eventually(() => expect(at.gateway.openStreams).toBe(1));
  at.append('fleet', 'tick', 1);
  await eventually(() => expect(text).toContain('event: tick'));
  const closed = once(socket, 'close');
  await at.gateway.close({ timeoutMs: 50 });
  await closed;
  expect(text.match(/event: tick/g)).toHaveLength(1);
  expect(text).toContain('cannot be pipelined');
});

test('the answer to a POST can be the updates themselves', async () => {
  await using at = await rig();
  at.hub.script = succeed;
  const reader = await watch(`${at.url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ type: 't.T', payloadBase64: 'AAE=' }),
  });
  expect(reader.response.status).toBe(200);
  expect(reader.response.headers.get('location')).toMatch(/^\/v1\/commands\//);
  const names = (await reader.rest()).filter(({ data }) => data !== '').map(({ name }) => name);
  expect(names).toEqual(['command.queued', 'command.delivered', 'command.succeeded']);
});

test('results in events are also JSON, where their type is known', async () => {
  const types = {
    encode: () => ({ type: '', value: new Uint8Array() }),
    decode: ({ type }: { type: string }) => (type === 'test.Pong' ? { text: 'pong' } : undefined),
    methods: () => [],
  };
  await using at = await rig({ types });
  const reader = await watch(`${at.url}/v1/events?channel=client.pump-7`);
  await reader.next();
  const result = { type: 'test.Pong', base64: 'cG9uZw==' };
  at.append('client.pump-7', 'command.succeeded', { commandId: 'c', result });
  at.append('client.pump-7', 'command.progress', { commandId: 'c', progress: { item: { ...result, type: 'other' } } });
  at.append('client.pump-7', 'command.progress', { commandId: 'c', progress: { fraction: 0.5 } });
  expect(dataOf(await take(reader, 3))).toEqual([
    { commandId: 'c', result: { ...result, json: { text: 'pong' } } },
    { commandId: 'c', progress: { item: { ...result, type: 'other' } } },
    { commandId: 'c', progress: { fraction: 0.5 } },
  ]);
  reader.leave();
});
