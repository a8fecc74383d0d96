import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Scope } from '../../src/auth/principal.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { type HubClients, hubClients } from '../../src/grpc/hub-clients.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { scriptedDevice } from '../../src/testing/index.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';
import { authenticatorOf, principal } from './fake-hub.ts';

/** A real hub; the token is the caller's scopes, and after a slash its channel patterns. */
async function startHub() {
  const log = memoryEventLog();
  const hub = new Hub({ log });
  const authenticator = authenticatorOf((token = '') => {
    const [scopes = '', channels] = token.split('/');
    return principal({ scopes: new Set(scopes.split('+') as Scope[]), channels: channels?.split('+') });
  });
  const server: GrpcServer = await serveGrpc({ hub, log, authenticator, addresses: ['127.0.0.1:0'] });
  onTestFinished(async () => {
    await server.close({ timeoutMs: 0 });
    await hub.close();
  });
  const as = (token: string): HubClients => {
    const clients = hubClients({ address: server.addresses[0]!, token });
    onTestFinished(() => clients.close());
    return clients;
  };
  return { hub, server, log, as };
}

const inTime = <T>(items: AsyncIterable<T>): AsyncIterator<T> => items[Symbol.asyncIterator]();
const denied = { name: 'HubError', code: 'permission-denied' };

test('clients are listed with their labels, and only to those who may', async () => {
  const { hub, as } = await startHub();
  await scriptedDevice(hub).hello({ clientId: 'pump-7', labels: { site: 'north' } });
  await scriptedDevice(hub).hello({ clientId: 'pump-8', labels: { site: 'south' } });
  const { clients } = as('clients:read');
  const all = await clients.listClients({});
  expect(all.clients.map(({ id, connected }) => [id, connected])).toEqual([
    ['pump-7', true],
    ['pump-8', true],
  ]);
  const north = await clients.listClients({ labels: { site: 'north' } });
  expect(north.clients.map(({ id }) => id)).toEqual(['pump-7']);
  await expect(as('commands:send').clients.listClients({})).rejects.toMatchObject({
    ...denied,
    message: expect.stringContaining('clients:read'),
  });
});

test('one client is got by its id, and an unknown one is not found by name', async () => {
  const { hub, as } = await startHub();
  await scriptedDevice(hub).hello({ clientId: 'pump-7' });
  const { clients } = as('clients:read');
  expect((await clients.getClient({ clientId: 'pump-7' })).client).toMatchObject({ id: 'pump-7', connected: true });
  await expect(clients.getClient({ clientId: 'pump-9' })).rejects.toMatchObject({
    code: 'not-found',
    message: 'client pump-9 is not known',
  });
  await expect(clients.getClient({ clientId: '../x' })).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('watching clients begins with those that are there, and goes on with every change', async () => {
  const { hub, as } = await startHub();
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'pump-7' });
  const watching = inTime(as('clients:read').clients.watchClients({}));
  expect((await watching.next()).value).toMatchObject({ client: { id: 'pump-7', connected: true }, caughtUp: true });
  await scriptedDevice(hub).hello({ clientId: 'pump-8' });
  expect((await watching.next()).value).toMatchObject({ client: { id: 'pump-8', connected: true } });
  device.cut();
  expect((await watching.next()).value).toMatchObject({ client: { id: 'pump-7', connected: false } });
  await watching.return?.();
});

test('watching clients where none are tells so at once', async () => {
  const { as } = await startHub();
  const watching = inTime(as('clients:read').clients.watchClients({}));
  expect((await watching.next()).value).toMatchObject({ client: undefined, caughtUp: true });
  await watching.return?.();
});

test('disconnecting a client needs an administrator', async () => {
  const { hub, as } = await startHub();
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'pump-7' });
  const request = { clientId: 'pump-7', reason: 'stolen', mayReconnect: false };
  await expect(as('clients:read').clients.disconnectClient(request)).rejects.toMatchObject(denied);
  expect(device.isClosed).toBe(false);
  const admin = as('admin').clients;
  expect(await admin.disconnectClient(request)).toEqual({ wasConnected: true });
  expect(await device.closed()).toMatchObject({ message: 'stolen', mayReconnect: false });
  expect(await admin.disconnectClient(request)).toEqual({ wasConnected: false });
  await expect(admin.disconnectClient({ ...request, reason: 'x'.repeat(1025) })).rejects.toMatchObject({
    code: 'invalid-argument',
  });
});

test('an administrator is no device', async () => {
  const { hub, server } = await startHub();
  const { connectDevice } = await import('../../src/device/index.ts');
  const refused = connectDevice({ address: server.addresses[0]!, clientId: 'pump-7', token: 'admin' });
  await expect(refused).rejects.toMatchObject({ code: 'permission-denied' });
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
});

test('events that are published are watched by those who may, from the start and live', async () => {
  const { as } = await startHub();
  const { events } = as('events:publish');
  const publish = (n: number) => events.publishEvent({ channel: 'team.ann', type: 'note', json: `{"n":${n}}` });
  await publish(1);
  const watching = inTime(as('events:read/team.*').events.watchEvents({ channels: ['team.ann'], fromStart: true }));
  const first = (await watching.next()).value;
  expect(first).toMatchObject({ event: { channel: 'team.ann', type: 'note', json: '{"n":1}' } });
  await publish(2);
  expect((await watching.next()).value).toMatchObject({ event: { json: '{"n":2}' } });
  await watching.return?.();

  const again = inTime(as('events:read').events.watchEvents({ channels: ['team.ann'], cursor: first.cursor }));
  expect((await again.next()).value).toMatchObject({ event: { json: '{"n":2}' } });
  await again.return?.();
});

test('a device that comes and goes is told on the fleet', async () => {
  const { hub, as } = await startHub();
  const watching = inTime(as('events:read').events.watchEvents({ channels: ['fleet'], fromStart: true }));
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'pump-7' });
  expect((await watching.next()).value).toMatchObject({ event: { type: 'client.connected' } });
  device.cut();
  expect((await watching.next()).value).toMatchObject({ event: { type: 'client.disconnected' } });
  await watching.return?.();
});

test.each([
  ['events:publish', { channels: ['team.ann'] }, 'permission-denied'],
  ['events:read/client.*', { channels: ['team.ann'] }, 'permission-denied'],
  ['events:read', { channels: [] }, 'invalid-argument'],
  ['events:read', { channels: ['a b'] }, 'invalid-argument'],
  ['events:read', { channels: Array.from({ length: 17 }, (_, i) => `c${i}`) }, 'invalid-argument'],
  ['events:read', { channels: ['team.ann'], cursor: 'nonsense' }, 'invalid-argument'],
] as [string, { channels: string[]; cursor?: string }, string][])(
  'as %s, watching %j is refused: %s',
  async (token, request, code) => {
    const { as } = await startHub();
    await expect(inTime(as(token).events.watchEvents(request)).next()).rejects.toMatchObject({ code });
  },
);

test.each([
  ['events:read', { channel: 'team.ann', type: 'note', json: '1' }, 'permission-denied'],
  ['events:publish', { channel: 'fleet', type: 'note', json: '1' }, 'invalid-argument'],
  ['events:publish', { channel: 'client.pump-7', type: 'note', json: '1' }, 'invalid-argument'],
  ['events:publish', { channel: 'team.ann', type: 'client.connected', json: '1' }, 'invalid-argument'],
  ['events:publish', { channel: 'team.ann', type: 'note', json: '{' }, 'invalid-argument'],
] as const)('as %s, publishing %j is refused: %s', async (token, request, code) => {
  const { as } = await startHub();
  await expect(as(token).events.publishEvent(request)).rejects.toMatchObject({ code });
});

test('health needs no credential, knows each service, and flips when the server drains', async () => {
  const { server, as } = await startHub();
  const { health } = as('');
  for (const service of ['', 'signalbox.v1.DeviceService', 'signalbox.v1.CommandService', 'signalbox.v1.EventService'])
    expect(await health.check({ service }), service).toEqual({ status: 1 });
  await expect(health.check({ service: 'nobody' })).rejects.toMatchObject({ code: 'not-found' });
  const watching = inTime(health.watch({ service: '' }));
  expect((await watching.next()).value).toEqual({ status: 1 });
  server.drain();
  expect((await watching.next()).value).toEqual({ status: 2 });
  expect(await health.check({ service: 'signalbox.v1.CommandService' })).toEqual({ status: 2 });
  await watching.return?.();
});

test('closing ends the streams of watchers first, with unavailable, and does not wait for them', async () => {
  const { server, as } = await startHub();
  const caller = as('clients:read+events:read');
  const clients = inTime(caller.clients.watchClients({}));
  await clients.next();
  const events = inTime(caller.events.watchEvents({ channels: ['team.ann'] }));
  const nextClient = clients.next();
  const nextEvent = events.next();
  await caller.clients.listClients({});
  const closed = server.close({ timeoutMs: 3_600_000 });
  await expect(nextClient).rejects.toMatchObject({ code: 'unavailable', message: /shutting down/ });
  await expect(nextEvent).rejects.toMatchObject({ code: 'unavailable', message: /shutting down/ });
  await closed;
});

test('reflection lists and describes the services for tools without .proto files', async () => {
  const { server } = await startHub();
  const buf = (...args: string[]): Program =>
    new Program(path.join(root, 'node_modules/.bin/buf'), [
      'curl',
      '--protocol',
      'grpc',
      '--http2-prior-knowledge',
      ...args,
    ]);
  const url = `http://${server.addresses[0]}`;
  const services = buf('--list-services', url);
  expect(await services.ended(), services.stderr).toBe(0);
  for (const name of ['Device', 'Command', 'Client', 'Event'])
    expect(services.stdout).toContain(`signalbox.v1.${name}Service\n`);
  const methods = buf('--list-methods', url);
  expect(await methods.ended(), methods.stderr).toBe(0);
  expect(methods.stdout).toContain('signalbox.v1.CommandService/SendCommandToClient\n');
});
