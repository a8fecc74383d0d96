import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import { updateFromProto } from '../../src/protocol/convert.ts';
import { type ServeOptions, type SignalboxServer, serve } from '../../src/server/index.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { runHere } from '../cli/signalbox.ts';
import { RedisServer } from '../support/redis.ts';

// Three nodes as `serve` makes them, over a Redis of their own.

let redis: RedisServer;
const nodes: SignalboxServer[] = [];
const devices: Device[] = [];

const open = (node: string): Promise<SignalboxServer> =>
  serve(
    {
      redis: redis.url,
      node,
      grpc: '127.0.0.1:0',
      http: '127.0.0.1:0',
      preset: 'test',
      livenessMs: 60_000, // nobody is cut off because the machine is busy
      nodeLeaseMs: 3000,
      drainReconnectAfterMs: 10,
      drainSpreadMs: 50,
    },
    { sources: { env: {}, cwd: '/' } },
  );

beforeAll(async () => {
  redis = await RedisServer.start();
  for (const name of ['a', 'b', 'c']) nodes.push(await open(name));
});
afterAll(async () => {
  for (const device of devices) await device.close({ timeoutMs: 0 });
  await Promise.all(nodes.map((node) => node.close()));
  await redis?.close();
});

const addressOf = (node: SignalboxServer): string => node.grpc[0]!;

async function connect(clientId: string, ...to: SignalboxServer[]): Promise<Device> {
  const device = await connectDevice({
    address: to.map(addressOf),
    clientId,
    labels: { home: clientId },
    backoff: { minMs: 10, maxMs: 100 },
    random: () => 0,
  });
  device.handle(bytes, (value) => value);
  devices.push(device);
  return device;
}

const bytes = { type: 'test.Do', encode: (value: Uint8Array) => value, decode: (value: Uint8Array) => value };
const last = async (updates: AsyncIterable<CommandUpdate>) => (await collect(updates)).at(-1);

test('any caller reaches any device by any node, live and queued, watches and finds what it sent', async () => {
  await connect('pump-a', nodes[0]!);
  await connect('pump-b', nodes[1]!);
  for (const node of nodes) {
    const transport = grpcTransport({ address: addressOf(node) });
    const hub = hubClients({ address: addressOf(node) });
    for (const clientId of ['pump-a', 'pump-b'])
      for (const whenOffline of ['fail', 'queue'] as const) {
        const command = testCommand({ clientId, whenOffline });
        expect(await last(transport.send(command))).toMatchObject({ state: 'succeeded' });
        for (const hint of [clientId, '']) {
          const { record } = await hub.commands.getCommand({ commandId: command.id, clientId: hint });
          expect(record).toMatchObject({ id: command.id, clientId });
        }
      }
    const { clients } = await hub.clients.listClients({ labels: {}, connectedOnly: true });
    expect(clients.map(({ id, node: at }) => [id, at])).toEqual([
      ['pump-a', 'a'],
      ['pump-b', 'b'],
    ]);
    await hub.close();
    await transport.close();
  }
});

test('the steps of a command that has ended are told at every node', async () => {
  await connect('pump-s', nodes[0]!);
  const steps = ['queued', 'sent', 'succeeded'].map((state) => `command.${state}`);
  for (const whenOffline of ['fail', 'queue'] as const)
    for (const node of nodes) {
      const transport = grpcTransport({ address: addressOf(nodes[0]!) });
      const told: string[] = [];
      const command = testCommand({ clientId: 'pump-s', whenOffline });
      for await (const { state } of transport.send(command)) told.push(`command.${state}`);
      expect(told).toEqual(expect.arrayContaining(steps));
      const http = `${node.http}/v1`;
      // Its own stream, which ends, and its channel, whose reader leaves.
      const own = await (await fetch(`${http}/commands/${command.id}/events`)).text();
      expect([...own.matchAll(/^event: (.*)$/gm)].map(([, name]) => name)).toEqual(told);
      const watched: string[] = [];
      const { body } = await fetch(`${http}/events?channel=command.${command.id}&from=start`);
      const decoder = new TextDecoder();
      let text = '';
      for await (const chunk of body!) {
        text += decoder.decode(chunk, { stream: true });
        if (/^event: command.succeeded$/m.test(text)) break;
      }
      watched.push(...[...text.matchAll(/^event: (.*)$/gm)].map(([, name]) => name!));
      expect(watched.filter((name) => name.startsWith('command.'))).toEqual(told);
      // By gRPC, with and without the word whose it is, and by the command line.
      const hub = hubClients({ address: addressOf(node) });
      for (const clientId of ['pump-s', '']) {
        const states: string[] = [];
        for await (const { update } of hub.commands.watchCommand({ commandId: command.id, clientId }))
          states.push(`command.${updateFromProto(update).state}`);
        expect(states).toEqual(told);
      }
      const args = ['watch', `command.${command.id}`, '--from-start', '--count', `${told.length}`, '--json'];
      const seen = (await runHere([...args, '--grpc', addressOf(node)])).json();
      expect(seen.map(({ type }) => type)).toEqual(told);
      await hub.close();
      await transport.close();
    }
});

test('a Redis that cannot keep what is promised is refused at the start, with what to do', async () => {
  const weak = await RedisServer.start({ settings: { appendonly: 'no' } });
  onTestFinished(() => weak.close());
  const start = (more: ServeOptions) =>
    serve({ grpc: '127.0.0.1:0', http: false, preset: 'test', ...more }, { sources: { env: {}, cwd: '/' } });
  await expect(start({ redis: weak.url })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/keeps no log.*CONFIG SET appendonly yes.*--redis-durability none/),
  });
  await expect(start({ redis: redis.url, redisDurability: 'replicated' })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/has no replica.*REPLICAOF.*"stored"/),
  });
  // By name the loss is accepted.
  const server = await start({ redis: weak.url, redisDurability: 'none' });
  await server.close();
});

test('a node that starts together with its Redis waits for it, and says so; a wrong Redis is refused all the same', async () => {
  const late = await RedisServer.start({ settings: { appendonly: 'no' } });
  onTestFinished(() => late.close());
  await late.kill();
  for (const isRight of [false, true]) {
    const waiting = Promise.withResolvers<string>();
    const started = serve(
      { redis: late.url, grpc: '127.0.0.1:0', http: false, preset: 'test' },
      {
        sources: { env: {}, cwd: '/' },
        observe: (fact) => fact.kind === 'redis-awaited' && 'message' in fact && waiting.resolve(String(fact.message)),
      },
    );
    expect(await waiting.promise).toContain(`127.0.0.1:${late.port}`);
    await late.restart({ settings: { appendonly: isRight ? 'yes' : 'no' } });
    if (isRight) await (await started).close();
    else await expect(started).rejects.toMatchObject({ message: expect.stringContaining('keeps no log') });
    await late.kill();
  }
});

test('nodes with secrets of their own are told that tokens of one are no good at another', async () => {
  const data = mkdtempSync(join(tmpdir(), 'signalbox-cluster-'));
  onTestFinished(() => rmSync(data, { recursive: true, force: true }));
  const advice: unknown[] = [];
  const start = async (more: ServeOptions) => {
    const options = { redis: redis.url, grpc: '127.0.0.1:0', http: false, preset: 'test', auth: 'jwt', data } as const;
    const observe = (fact: { kind: string }) => fact.kind === 'server-advice' && advice.push(fact);
    const server = await serve({ ...options, ...more }, { sources: { env: {}, cwd: '/' }, observe });
    await server.close();
  };
  await start({});
  expect(advice).toEqual([{ kind: 'server-advice', message: expect.stringContaining('authSecretFile') }]);
  await start({ authSecretFile: join(data, 'jwt.secret') });
  expect(advice).toHaveLength(1);
});
