import { connect as http2Connect } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Principal } from '../../src/auth/principal.ts';
import { HubError, type HubErrorCode } from '../../src/errors.ts';
import { type HubClients, hubClients } from '../../src/grpc/hub-clients.ts';
import type { GrpcServerOptions } from '../../src/grpc/serve-grpc.ts';
import { errorOfStatus, grpcStatus, statusOfError } from '../../src/grpc/status.ts';
import { commandToProto } from '../../src/protocol/convert.ts';
import { SendCommandToClientRequest } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { testCommand, virtualClock } from '../../src/testing/index.ts';
import { authenticatorOf, principal } from './fake-hub.ts';
import { asIs, metadataOf, start } from './harness.ts';

const path = '/signalbox.v1.CommandService/SendCommandToClient';
const request = (): Buffer =>
  Buffer.from(SendCommandToClientRequest.encode({ command: commandToProto(testCommand()), brief: false }).finish());

async function startFor(who: Partial<Principal> = {}, options: Partial<GrpcServerOptions> = {}) {
  const started = await start({ authenticator: authenticatorOf(() => principal(who)), ...options });
  const clients = hubClients({ address: started.server.addresses[0]! });
  onTestFinished(() => clients.close());
  return { ...started, clients };
}

async function first<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item;
  return undefined;
}

type Call = (clients: HubClients) => Promise<unknown>;

describe('errors', () => {
  test.each(Object.keys(grpcStatus) as HubErrorCode[])('%s comes back as it was', (code) => {
    const facts = { retryAfterMs: 1_500, deviceCode: 'zu heiß', commandId: 'c-1' };
    const back = errorOfStatus(statusOfError(new HubError(code, 'pump-7: zu heiß', facts)));
    expect(back).toMatchObject({ code, ...facts });
    // What went wrong inside stays inside.
    expect(back.message).toBe(code === 'internal' ? 'internal error' : 'pump-7: zu heiß');
  });

  test('of other servers get the nearest word', () => {
    const end = { code: status.UNAVAILABLE, details: 'no' };
    expect(errorOfStatus(end)).toMatchObject({ code: 'unavailable', message: 'no' });
    expect(errorOfStatus({ code: 99, details: '' })).toMatchObject({ code: 'internal' });
  });
});

test.each<[string, Call]>([
  ['SendCommandToClient', (c) => first(c.commands.sendCommandToClient({}))],
  ['WatchCommand', (c) => first(c.commands.watchCommand({ commandId: 'x' }))],
  ['CancelCommand', (c) => c.commands.cancelCommand({ commandId: 'x' })],
  ['GetCommand', (c) => c.commands.getCommand({ commandId: 'x' })],
  ['ListCommands', (c) => c.commands.listCommands({})],
])('%s needs the scope commands:send, and the error says so', async (_, call) => {
  const { clients } = await startFor({ scopes: new Set(['clients:read', 'events:read', 'events:publish']) });
  await expect(call(clients)).rejects.toMatchObject({
    code: 'permission-denied',
    message: expect.stringContaining('commands:send'),
  });
});

const send =
  (command: object): Call =>
  (c) =>
    first(c.commands.sendCommandToClient({ command }));
test.each<[string, Call, string]>([
  ['no command', (c) => first(c.commands.sendCommandToClient({})), 'command is missing'],
  ['no payload', send({ clientId: 'x' }), 'command.payload'],
  ['a policy that nobody knows', send({ payload: {}, whenOffline: 9 }), 'when_offline 9'],
  ['a bad id', (c) => c.commands.getCommand({ commandId: '../x' }), '../x'],
  ['a bad client', (c) => c.commands.listCommands({ clientId: '*' }), '"*"'],
  ['a page of 1001', (c) => c.commands.listCommands({ pageSize: 1001 }), 'page_size 1001'],
  ['a long reason', (c) => c.commands.cancelCommand({ commandId: 'x', reason: 'y'.repeat(2_000) }), '2000'],
])('%s is refused by name', async (_, call, named) => {
  const { clients } = await startFor();
  await expect(call(clients)).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringContaining(named),
  });
});

test('a command gets the tenant of its credential, an id where it has none, and defaults for zeros', async () => {
  const { clients, hub } = await startFor({ tenant: 'acme' });
  const told = first(clients.commands.sendCommandToClient({ command: { clientId: 'pump-7', payload: { type: 't' } } }));
  await hub.until(() => hub.sent.length === 1);
  const { command, updates } = hub.sent[0]!;
  expect(command).toMatchObject({ tenant: 'acme', clientId: 'pump-7', timeoutMs: 30_000, whenOffline: 'fail' });
  expect(command.id).toMatch(/^[0-9a-f-]{36}$/);
  updates.end();
  expect(await told).toBeUndefined();
});

test('a caller who leaves is not told any more, and nothing is cancelled', async () => {
  const { client, hub } = await startFor();
  const call = client.makeServerStreamRequest(path, asIs, asIs, request(), metadataOf({}));
  call.on('error', () => undefined);
  call.resume();
  await hub.until(() => hub.sent.length === 1);
  call.cancel();
  await hub.until(() => hub.sent[0]!.left);
  expect(hub.cancelled).toEqual([]);
});

test('a caller that never reads makes the hub wait, and loses its stream in time', async () => {
  const clock = virtualClock();
  const { server, hub, facts } = await startFor({}, { clock, limits: { stallMs: 5_000 } });
  // Not grpc-js: its client reads whether or not anybody reads from it.
  const session = http2Connect(`http://${server.addresses[0]}`);
  onTestFinished(() => session.destroy());
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const call = session.request(headers);
  call.on('error', () => undefined);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(request().length, 1);
  call.end(Buffer.concat([head, request()]));
  await hub.until(() => hub.sent.length === 1);
  const { updates } = hub.sent[0]!;
  const item = { type: 't', value: new Uint8Array(50_000) };
  for (let i = 0; i < 100; i++)
    updates.push({ commandId: 'c', clientId: 'x', atMs: i, state: 'progress', progress: { item } });
  // What the stream's window and buffer take goes out; the rest waits with the hub, which has its own limit.
  while (updates.buffered > 98) await new Promise((resolve) => setImmediate(resolve));
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(updates.buffered).toBeGreaterThan(50);
  const closed = new Promise((resolve) => call.once('close', resolve));
  await clock.advance(5_001);
  await hub.until(() => hub.sent[0]!.left);
  expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-stream-reset' }));
  call.resume();
  await closed;
  expect(hub.cancelled).toEqual([]);
});

test('the hub’s refusal is the caller’s error, with all that it says', async () => {
  const { clients, hub } = await startFor();
  const said = { code: 'mailbox-full', retryAfterMs: 1_000, commandId: 'c', message: 'client pump-7 has 3 commands' };
  hub.failSend = new HubError('mailbox-full', said.message, { retryAfterMs: 1_000, commandId: 'c' });
  await expect(send(commandToProto(testCommand()))(clients)).rejects.toMatchObject({ name: 'HubError', ...said });
});
