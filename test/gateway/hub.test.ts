import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/open-authenticator.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { serveGateway } from '../../src/gateway/index.ts';
import { Hub } from '../../src/hub/hub.ts';
import { memoryCommandStore } from '../../src/hub/memory-command-store.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { scriptedDevice } from '../../src/testing/index.ts';
import { eventually } from '../support/eventually.ts';
import { watch } from './support.ts';

async function house(storeDirectory?: string) {
  const store = storeDirectory === undefined ? undefined : await openSqlite({ directory: storeDirectory });
  const log = store?.log ?? memoryEventLog();
  const hub = new Hub({ log, commands: store?.commands ?? memoryCommandStore() });
  const gateway = await serveGateway({ hub, log, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
  return {
    hub,
    url: gateway.urls[0]!,
    async [Symbol.asyncDispose]() {
      await gateway.close({ timeoutMs: 1_000 });
      await hub.close();
      await (store ?? log).close();
    },
  };
}

const send = (url: string, body: object, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ type: 'test.Do', payloadBase64: 'AQI=', ...body }),
  });

test('with a real hub: a browser sees the device come, its command run, and what it answered', async () => {
  await using at = await house();
  const page = await watch(`${at.url}/v1/events?channel=fleet&channel=client.pump-7`);
  await page.next();
  const device = scriptedDevice(at.hub);
  await device.hello();
  expect([(await page.event()).name, (await page.event()).name]).toEqual(['client.connected', 'client.connected']);
  const answer = send(at.url, {});
  await eventually(() => expect(device.commands).toHaveLength(1));
  const { id } = device.commands[0]!;
  device.succeed(id, { type: 'test.Done', value: new Uint8Array([7]) });
  const response = await answer;
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ commandId: id, state: 'succeeded', result: { base64: 'Bw==' } });
  const names = [];
  do names.push((await page.event()).name);
  while (names.at(-1) !== 'command.succeeded');
  expect(names[0]).toBe('command.sent');
  page.leave();
  const history = await watch(`${at.url}/v1/commands/${id}/events`);
  const updates = (await history.rest()).filter(({ data }) => data !== '');
  expect(updates.map(({ name }) => name)).toEqual(['command.queued', ...names]);
  const again = await fetch(`${at.url}/v1/commands/${id}/events`, { headers: { 'last-event-id': updates.at(-1)!.id } });
  expect(again.status).toBe(204);
});

test('with a real hub: a client that is away is 503, also where a stream was asked for', async () => {
  await using at = await house();
  for (const accept of ['application/json', 'text/event-stream']) {
    const response = await send(at.url, {}, { accept });
    expect([response.status, await response.json()]).toMatchObject([503, { code: 'client-offline' }]);
  }
});

test('with a real hub: a command that is queued, watched, left and cancelled', async () => {
  await using at = await house();
  const queued = { whenOffline: 'queue', ttlMs: 60_000, idempotencyKey: 'k' };
  const reader = await watch(`${at.url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ type: 'test.Do', payloadBase64: 'AQI=', ...queued }),
  });
  const first = await reader.event();
  expect(first.name).toBe('command.queued');
  const { commandId } = JSON.parse(first.data).data;
  reader.leave();
  const same = await send(at.url, queued);
  expect([same.status, ((await same.json()) as { commandId: string }).commandId]).toEqual([202, commandId]);
  const other = await send(at.url, { ...queued, payloadBase64: 'Aw==' });
  expect([other.status, await other.json()]).toMatchObject([409, { code: 'idempotency-conflict' }]);
  const list = (await (await fetch(`${at.url}/v1/commands?pending=true&clientId=pump-7`)).json()) as object;
  expect(list).toMatchObject({ commands: [{ commandId, state: 'queued', whenOffline: 'queue', type: 'test.Do' }] });
  const stream = await watch(`${at.url}/v1/commands/${commandId}/events`);
  expect((await stream.event()).name).toBe('command.queued');
  await fetch(`${at.url}/v1/commands/${commandId}/cancel`, { method: 'POST' });
  expect((await stream.rest()).at(-1)!.name).toBe('command.cancelled');
});

test('with the embedded store: a browser that was away over a restart of the hub misses nothing that is kept', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gateway-hub-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const queued = { whenOffline: 'queue', ttlMs: 60_000 };
  let cursor: string;
  let first: string;
  let second: string;
  {
    await using at = await house(directory);
    const reader = await watch(`${at.url}/v1/clients/pump-7/events`);
    await reader.next();
    first = ((await (await send(at.url, queued)).json()) as { commandId: string }).commandId;
    const event = await reader.event();
    expect(JSON.parse(event.data).data).toMatchObject({ commandId: first, state: 'queued' });
    cursor = event.id;
    reader.leave();
    second = ((await (await send(at.url, queued)).json()) as { commandId: string }).commandId;
  }
  await using at = await house(directory);
  const reader = await watch(`${at.url}/v1/clients/pump-7/events`, { headers: { 'last-event-id': cursor } });
  const ids: string[] = [];
  const names: string[] = [];
  while (!ids.includes(second)) {
    const { name, data } = await reader.event();
    names.push(name);
    ids.push(JSON.parse(data).data?.commandId);
  }
  expect(ids).not.toContain(first);
  expect(names.filter((name) => name.startsWith('hub.')).length).toBeLessThanOrEqual(1);
  await fetch(`${at.url}/v1/commands/${second}/cancel`, { method: 'POST' });
  let last = await reader.event();
  while (last.name !== 'command.cancelled') last = await reader.event();
  reader.leave();
});
