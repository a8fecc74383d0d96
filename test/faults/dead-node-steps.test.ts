import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import type { Command, CommandUpdate } from '../../src/protocol/command.ts';
import { updateFromProto } from '../../src/protocol/convert.ts';
import { collect, faultProxy, testCommand } from '../../src/testing/index.ts';
import { runCli } from '../cli/signalbox.ts';
import { type SseReader, watch } from '../gateway/support.ts';
import { until } from '../support/redis.ts';
import { ClusterWorld } from './support/cluster.ts';

// What becomes of the steps of a command whose node is killed: a watcher at another node sees them, or that there is a gap.

const bytes = { type: 'test.Do', encode: (value: Uint8Array) => value, decode: (value: Uint8Array) => value };
const end = /^command\.(succeeded|failed|rejected|cancelled|expired|unknown)$/;

/** Three nodes, and a device that is at the first, and at the second once that is gone. Its handler ends with `go`. */
async function openWorld() {
  const world = await ClusterWorld.open(3);
  const [first, second, third] = world.nodes as [Node, Node, Node];
  const go = Promise.withResolvers<void>();
  const device = await connectDevice({
    address: [first.grpc, second.grpc],
    clientId: 'pump-7',
    backoff: { minMs: 10, maxMs: 200 },
    random: () => 0,
  });
  onTestFinished(() => device.close({ timeoutMs: 0 }));
  device.handle(bytes, async (value, { progress }) => {
    progress({ fraction: 0.5, note: 'half way' });
    await go.promise;
    return value;
  });
  await isAt(first, 'node-1');
  const transport = grpcTransport({ address: [second.grpc] });
  onTestFinished(() => transport.close());
  const send = (command: Command): Promise<CommandUpdate[]> => collect(transport.send(command));
  return { first, second, third, device, go, send };
}

type Node = ClusterWorld['nodes'][number];

/** Resolves once a node knows that the device is at another one. */
const isAt = (node: Node, name: string): Promise<void> =>
  until(async () => {
    const client = (await (await fetch(`http://${node.http}/v1/clients/pump-7`)).json()) as { node?: string };
    return client.node === name;
  });

const isBegun = (node: Node, { id }: Command): Promise<void> =>
  until(async () => {
    const record = (await (await fetch(`http://${node.http}/v1/commands/${id}`)).json()) as { state?: string };
    return record.state === 'progress';
  });

/** The command's own stream, or its channel, from its beginning. */
const streamOf = {
  own: (node: Node, { id }: Command) => open(`http://${node.http}/v1/commands/${id}/events`),
  channel: (node: Node, { id }: Command) => open(`http://${node.http}/v1/events?channel=command.${id}&from=start`),
};

async function open(url: string): Promise<SseReader> {
  const reader = await watch(url);
  expect([url, reader.response.status]).toEqual([url, 200]);
  return reader;
}

/** What a stream tells of a command, until its end. */
async function story(stream: SseReader | Promise<SseReader>, until = end): Promise<string[]> {
  const reader = await stream;
  const seen: string[] = [];
  while (!until.test(seen.at(-1) ?? '')) seen.push((await reader.event()).name);
  reader.leave();
  return seen;
}

test('of a command that ended at a node that was killed, all others tell what the store knows, and the gap', async () => {
  const { first, second, third, go, send } = await openWorld();
  go.resolve();
  const [ran, also, never] = Array.from({ length: 3 }, () => testCommand({ whenOffline: 'queue' }));
  expect((await send(ran!)).at(-1)).toMatchObject({ state: 'succeeded' });
  expect((await send(also!)).at(-1)).toMatchObject({ state: 'succeeded' });
  const waiting = send({ ...never!, clientId: 'nobody' });
  await until(async () => (await fetch(`http://${third.http}/v1/commands/${never!.id}`)).ok);
  await fetch(`http://${first.http}/v1/commands/${never!.id}/cancel`, { method: 'POST' });
  expect((await waiting).at(-1)).toMatchObject({ state: 'cancelled' });
  await first.child.kill();
  await isAt(third, 'node-2');

  const known = ['hub.gap', 'command.queued', 'command.succeeded'];
  expect(await story(streamOf.own(third, ran!))).toEqual(known);
  expect(await story(streamOf.channel(second, ran!))).toEqual(known);
  expect(await story(streamOf.channel(third, also!))).toEqual(known);
  expect(await story(streamOf.own(second, also!))).toEqual(known);
  // Of one that was never sent that is all there is.
  expect(await story(streamOf.channel(third, never!))).toEqual(['command.queued', 'command.cancelled']);
  expect(await story(streamOf.own(third, never!))).toEqual(['command.queued', 'command.cancelled']);

  // By gRPC: steps may be left out, and the end is told.
  const hub = hubClients({ address: third.grpc });
  onTestFinished(() => hub.close());
  const states: string[] = [];
  for await (const { update } of hub.commands.watchCommand({ commandId: ran!.id, clientId: '' }))
    states.push(updateFromProto(update).state);
  expect(states).toEqual(['queued', 'succeeded']);
  const args = ['watch', `command.${ran!.id}`, '--from-start', '--count', '3', '--json', '--grpc', third.grpc];
  expect((await runCli(args)).json().map(({ type }) => type)).toEqual(known);
});

test('who watches a command sees its end, though its node is killed and its device ends it at another one', async () => {
  const { first, second, third, go, send } = await openWorld();
  const commands = [testCommand({ timeoutMs: 60_000 }), testCommand({ whenOffline: 'queue' })];
  const ends = commands.map(send);
  for (const command of commands) await isBegun(first, command);
  const { own, channel } = streamOf;
  const watching = await Promise.all(commands.flatMap((command) => [own(third, command), channel(third, command)]));
  for (const command of commands) await story(channel(second, command), /progress/);
  await first.child.kill();
  await isAt(third, 'node-2');
  go.resolve();
  for (const updates of await Promise.all(ends)) expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
  for (const reader of watching) {
    const seen = await story(reader);
    expect(seen).toEqual(expect.arrayContaining(['command.queued', 'command.progress', 'command.succeeded']));
    expect(seen[0]).toBe('command.queued');
    expect(seen.at(-1)).toBe('command.succeeded');
  }
});

test('who comes later is told the gap, where a command began at a node that was killed and ended at another one', async () => {
  const { first, third, go, send } = await openWorld();
  const commands = [testCommand({ timeoutMs: 60_000 }), testCommand({ whenOffline: 'queue' })];
  const ends = commands.map(send);
  for (const command of commands) await isBegun(first, command);
  await first.child.kill();
  await isAt(third, 'node-2');
  go.resolve();
  for (const updates of await Promise.all(ends)) expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
  for (const command of commands) {
    const seen = await story(streamOf.channel(third, command));
    expect([seen[0], seen.at(-1)]).toEqual(['hub.gap', 'command.succeeded']);
  }
  const { own, channel } = streamOf;
  expect(await story(own(third, commands[1]!))).toEqual(await story(channel(third, commands[1]!)));
});

test('where the node of a live command is lost between the word that it has ended and its steps, a reset is told and the end', async () => {
  const world = await ClusterWorld.open(1);
  const [asked] = world.nodes as [Node];
  const road = await faultProxy({ target: () => `127.0.0.1:${world.redis.port}` });
  onTestFinished(() => road.close());
  const first = await world.add({ redis: `redis://${road.address}` });
  const device = await connectDevice({ address: first.grpc, clientId: 'pump-7' });
  onTestFinished(() => device.close({ timeoutMs: 0 }));
  device.handle(bytes, (value) => value);
  await isAt(asked, 'node-2');
  const transport = grpcTransport({ address: first.grpc });
  onTestFinished(() => transport.close());
  const command = testCommand();
  expect((await collect(transport.send(command))).at(-1)).toMatchObject({ state: 'succeeded' });
  // It answers other nodes, and reaches Redis no more: what is told there of a watcher it does not hear.
  road.blackHole();
  expect(await story(streamOf.own(asked, command))).toEqual(['hub.reset', 'command.succeeded']);
});
