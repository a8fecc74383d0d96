import { afterEach, beforeEach, expect, test } from 'vitest';
import { memoryClientDirectory } from '../../src/cluster/index.ts';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import { GoodbyeReason } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { eventually } from '../support/eventually.ts';
import { connect, states, TestCluster, type TestNode } from './cluster.ts';

let cluster: TestCluster;
let a: TestNode;
let b: TestNode;
let c: TestNode;

beforeEach(async () => {
  cluster = new TestCluster({ hub: { window: 2 } });
  a = await cluster.add('a');
  b = await cluster.add('b');
  c = await cluster.add('c');
});
afterEach(() => cluster.close());

test('the newest stream wins, on whatever node: the old one is told, and epochs only grow', async () => {
  const epochs: number[] = [];
  let old: ScriptedDevice | undefined;
  for (const node of [a, b, c, b, a, a, c]) {
    const device = scriptedDevice(node.hub);
    epochs.push((await device.hello({ bootId: 'boot-1' })).epoch);
    if (old)
      expect(await old.closed()).toMatchObject({ reason: GoodbyeReason.GOODBYE_REASON_TAKEN_OVER, mayReconnect: true });
    old = device;
  }
  expect(epochs).toEqual([...new Set(epochs)].sort((x, y) => x - y));
  expect([a, b, c].map(({ hub }) => hub.clients.isConnected('default', 'pump-7'))).toEqual([false, false, true]);
});

test('a session is resumed on its own node, and not once the device has been elsewhere', async () => {
  const first = scriptedDevice(a.hub);
  const { session } = await first.hello({ bootId: 'boot-1' });
  first.cut();
  const again = scriptedDevice(a.hub);
  expect(await again.hello({ bootId: 'boot-1', resume: { session, lastSeq: 0 } })).toMatchObject({ resumed: true });
  again.cut();
  (await connect(b)).cut();
  const late = scriptedDevice(a.hub);
  expect(await late.hello({ bootId: 'boot-1', resume: { session, lastSeq: 0 } })).toMatchObject({ resumed: false });
});

test('a live command goes with its device to another node: its caller is told the result, and nothing runs twice', async () => {
  const first = await connect(a);
  const command = testCommand();
  const updates = collect(c.road.send(command));
  await first.command();
  first.send({ $case: 'started', value: { commandId: command.id } });
  const second = await connect(b, { inFlight: [command.id] });
  second.succeed(command.id, { type: 'test.Done', value: new Uint8Array([7]) });
  expect(states(await cluster.soon(updates))).toEqual(['queued', 'sent', 'delivered', 'started', 'succeeded']);
  expect(second.commands).toEqual([]);
  expect(b.facts).toContainEqual(expect.objectContaining({ kind: 'client-moved', handed: 1 }));
});

test('what the old node had not sent, or the device had not begun, the new node sends, in its order', async () => {
  const first = await connect(a);
  const commands = Array.from({ length: 4 }, () => testCommand());
  // The window is 2: the others wait in the memory of node a.
  const ends: Promise<CommandUpdate[]>[] = [];
  for (const [i, command] of commands.entries()) {
    ends.push(collect([a, b, c, a][i]!.road.send(command)));
    await eventually(() => a.hub.get('default', command.id));
  }
  await first.command(2);
  first.cut();
  const second = await connect(b);
  for (const [i, { id }] of commands.entries()) {
    expect((await second.command(i + 1)).id).toBe(id);
    second.succeed(id);
  }
  for (const end of ends) expect(states(await cluster.soon(end)).at(-1)).toBe('succeeded');
  expect(second.commands).toHaveLength(4);
});

test('without its journal a device that moves leaves a begun command unknown, and it is not run again', async () => {
  const first = await connect(a);
  const command = testCommand();
  const settled = c.road.settle(command, (end) => end);
  await first.command();
  first.send({ $case: 'started', value: { commandId: command.id } });
  const second = await connect(b, { bootId: 'boot-2', journalId: 'journal-2' });
  expect(await cluster.soon(settled)).toMatchObject({ state: 'unknown', error: { code: 'outcome-unknown' } });
  expect(second.commands).toEqual([]);
});

test('a cancel that was asked for goes along', async () => {
  const first = await connect(a);
  const command = testCommand();
  const aborter = new AbortController();
  const updates = collect(b.road.send(command, { signal: aborter.signal }));
  await first.command();
  first.send({ $case: 'started', value: { commandId: command.id } });
  aborter.abort();
  await first.next((frame) => frame.body?.$case === 'cancel');
  first.cut();
  const second = await connect(c, { inFlight: [command.id] });
  await second.next((frame) => frame.body?.$case === 'cancel' && frame.body.value.commandId === command.id);
  second.end(command.id, 'cancelled');
  expect((await cluster.soon(updates)).at(-1)).toMatchObject({ state: 'cancelled' });
});

test('a queued command for a client that is away goes by whatever node it comes to, and all callers hear of it', async () => {
  const command = testCommand({ whenOffline: 'queue' });
  const sent = collect(a.road.send(command));
  await eventually(async () => expect(await cluster.commands.get(command.id)).toBeDefined());
  const watched = collect(b.road.watch('default', command.id));
  const device = await connect(c);
  expect((await device.command()).id).toBe(command.id);
  device.succeed(command.id);
  expect(states(await cluster.soon(sent))).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  expect(states(await cluster.soon(watched)).at(-1)).toBe('succeeded');
  expect(await a.road.get('default', command.id)).toMatchObject({ last: { state: 'succeeded' } });
});

test('queued commands keep their order over a move, and each is run once', async () => {
  const first = await connect(a);
  const commands = Array.from({ length: 9 }, () => testCommand({ whenOffline: 'queue' }));
  const ends: Promise<CommandUpdate[]>[] = [];
  for (const [i, command] of commands.entries()) {
    ends.push(collect([a, b, c][i % 3]!.road.send(command)));
    await eventually(async () => expect(await cluster.commands.get(command.id)).toBeDefined());
  }
  const done: string[] = [];
  const run = async (device: ScriptedDevice, count: number): Promise<void> => {
    for (let n = 1; n <= count; n++) {
      const { id } = await device.command(n);
      done.push(id);
      device.succeed(id);
    }
  };
  await run(first, 4);
  // The end of each is stored before the device is told so.
  for (const { id } of commands.slice(0, 4))
    await eventually(async () => expect((await cluster.commands.get(id))?.last.state).toBe('succeeded'));
  first.cut();
  await run(await connect(b), 5);
  for (const end of ends) expect(states(await cluster.soon(end)).at(-1)).toBe('succeeded');
  expect(done).toEqual(commands.map(({ id }) => id));
});

test('a command of a node that dies with its device’s journal out of reach is unknown, a queued one goes on', async () => {
  const first = await connect(a);
  const live = testCommand();
  const queued = testCommand({ whenOffline: 'queue' });
  const liveEnd = collect(b.road.send(live)).catch((error: unknown) => error);
  await first.command();
  const queuedEnd = collect(b.road.send(queued));
  await first.command(2);
  a.kill();
  a.membership.close = async () => undefined;
  await cluster.directory.leave(a.membership.instance);
  const second = await connect(c, { inFlight: [queued.id] });
  second.succeed(queued.id);
  expect(states(await cluster.soon(queuedEnd)).at(-1)).toBe('succeeded');
  await b.membership.refreshNodes();
  expect(await cluster.soon(liveEnd)).toMatchObject({ code: 'outcome-unknown' });
  expect(second.commands).toEqual([]);
});

test('while a node is out of reach, its commands are found again once it is back', async () => {
  const device = await connect(a);
  const command = testCommand();
  const updates = collect(b.road.send(command));
  await device.command();
  const mend = cluster.cut(a);
  const cancelled = b.road.cancel('default', command.id, 'no more', { clientId: 'pump-7' });
  await expect(cluster.soon(cancelled)).rejects.toMatchObject({ code: 'unavailable' });
  mend();
  device.succeed(command.id);
  expect(states(await cluster.soon(updates)).at(-1)).toBe('succeeded');
});

test('a node that was away beyond its lease loses the clients that others took, keeps the rest, and its late writes change nothing', async () => {
  const taken = await connect(a);
  const kept = await connect(a, { clientId: 'pump-8' });
  const command = testCommand({ whenOffline: 'queue' });
  const updates = collect(a.road.send(command));
  await taken.command();
  // Nothing of node a runs while it is stopped, but for what its peers ask of it.
  const lapsed = a.membership.instance;
  await cluster.directory.leave(lapsed);
  const mend = cluster.cut(a);
  const second = await connect(b, { inFlight: [command.id] });
  mend();
  taken.succeed(command.id, { type: 'test.Forged', value: new Uint8Array() });
  await cluster.clock.advance(1500);
  expect((await cluster.commands.get(command.id))?.last.state).not.toBe('succeeded');
  expect(await taken.closed()).toMatchObject({ reason: GoodbyeReason.GOODBYE_REASON_TAKEN_OVER });
  await cluster.clock.advance(5000);
  expect(a.membership.instance).not.toBe(lapsed);
  expect(kept.isClosed).toBe(false);
  expect(await cluster.directory.holders([{ tenant: 'default', clientId: 'pump-8' }])).toEqual([
    { instance: a.membership.instance, epoch: a.hub.clients.get('default', 'pump-8')?.epoch },
  ]);
  second.succeed(command.id);
  expect((await cluster.soon(updates)).at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
  const late = collect(c.road.send(testCommand({ clientId: 'pump-8', whenOffline: 'queue' })));
  kept.succeed((await kept.command()).id);
  expect(states(await cluster.soon(late)).at(-1)).toBe('succeeded');
});

test('a client that was lost without a word is noticed', async () => {
  const silent = new TestCluster();
  silent.directory.onTaken = () => () => undefined;
  const [one, two] = [await silent.add('one'), await silent.add('two')];
  const first = await connect(one);
  one.kill();
  const second = await connect(two);
  expect(two.facts).toContainEqual(expect.objectContaining({ kind: 'yield-failed' }));
  expect(first.isClosed).toBe(false);
  await silent.clock.advance(1500);
  expect(first.isClosed).toBe(true);
  expect(second.isClosed).toBe(false);
  await silent.close();
});

test('two programs that fight for one id over two nodes are slowed, and told of', async () => {
  const waits: number[] = [];
  let last: ScriptedDevice | undefined;
  for (let round = 0; round < 8; round++) {
    const device = await connect(round % 2 ? a : b, { bootId: `boot-${round % 2}`, journalId: `journal-${round % 2}` });
    if (last) waits.push((await last.closed())!.retryAfterMs);
    last = device;
  }
  expect(waits.at(-1)).toBeGreaterThanOrEqual(4000);
  expect(waits.at(-1)).toBeGreaterThan(waits[0]!);
});

test('a directory that has lost all that it knew is told again, and epochs go on from where they were', async () => {
  const device = await connect(a);
  const { epoch } = a.hub.clients.get('default', 'pump-7')!;
  const empty = memoryClientDirectory({ clock: { ...cluster.clock, now: () => 1000 } });
  for (const verb of ['join', 'renew', 'leave', 'nodes', 'claim', 'release', 'holders', 'get', 'list'] as const)
    Object.assign(cluster.directory, { [verb]: empty[verb].bind(empty) });
  await cluster.clock.advance(6000);
  const [holder] = await empty.holders([{ tenant: 'default', clientId: 'pump-7' }]);
  expect(holder?.instance).toBe(a.membership.instance);
  expect(holder?.epoch).toBeGreaterThan(epoch);
  expect(device.isClosed).toBe(false);
  const updates = collect(b.road.send(testCommand()));
  device.succeed((await device.command()).id);
  expect(states(await cluster.soon(updates)).at(-1)).toBe('succeeded');
});

test('a live command waits for its client on all nodes', async () => {
  const updates = collect(a.road.send(testCommand({ waitForConnectMs: 10_000 })));
  await cluster.clock.advance(2000);
  const device = await connect(b);
  device.succeed((await device.command()).id);
  expect(states(await cluster.soon(updates)).at(-1)).toBe('succeeded');
});

test('a cancelled command that was not sent is never sent, on whatever node its client turns up meanwhile', async () => {
  for (let round = 0; round < 20; round++) {
    const command = testCommand({ clientId: `pump-${round}`, whenOffline: 'queue' });
    const updates = collect(a.road.send(command));
    await eventually(async () => expect(await cluster.commands.get(command.id)).toBeDefined());
    const device = scriptedDevice(b.hub);
    const hello = device.hello({ clientId: `pump-${round}` });
    for (let turn = 0; turn < round; turn++) await Promise.resolve();
    const cancelled = a.road.cancel('default', command.id, 'no more', { clientId: `pump-${round}` });
    await hello;
    await cluster.soon(cancelled.catch(() => undefined));
    await cluster.clock.advance(1100);
    if (device.commands.length > 0) device.end(command.id, 'cancelled');
    const end = (await cluster.soon(updates)).at(-1)!;
    expect(end.state).toBe('cancelled');
    const wasSent = device.commands.length > 0;
    expect(end).toMatchObject({ error: { code: wasSent ? 'test' : 'cancelled' } });
  }
});

test('the clients of all nodes are listed, looked at, watched and disconnected from any', async () => {
  const seen: string[] = [];
  const letGo = c.road.clients.onChange('default', ({ id, connected, node }) =>
    seen.push(`${id} ${connected} ${node}`),
  );
  await cluster.clock.advance(0);
  const device = await connect(a, { labels: { site: 'north' } });
  await connect(b, { clientId: 'pump-8' });
  const shown = (await c.road.clients.list('default')).map(({ id, node, connected }) => ({ id, node, connected }));
  expect(shown).toEqual([
    { id: 'pump-7', node: 'a', connected: true },
    { id: 'pump-8', node: 'b', connected: true },
  ]);
  expect((await c.road.clients.list('default', { labels: { site: 'north' } })).map(({ id }) => id)).toEqual(['pump-7']);
  const open = collect(b.road.send(testCommand()));
  await device.command();
  expect(await c.road.clients.get('default', 'pump-7')).toMatchObject({ node: 'a', pendingCommands: 1 });
  device.succeed((await device.command()).id);
  await cluster.soon(open);
  expect(await c.road.clients.disconnect('default', 'pump-7', { reason: 'go' })).toBe(true);
  expect(await device.closed()).toMatchObject({ message: 'go' });
  await cluster.clock.advance(10);
  expect(await c.road.clients.disconnect('default', 'pump-7')).toBe(false);
  expect(await c.road.clients.list('default', { connectedOnly: true })).toHaveLength(1);
  expect(seen).toEqual(['pump-7 true a', 'pump-8 true b', 'pump-7 false ']);
  letGo();
});

test('a node that drains serves its devices until they leave, and hands over what runs longer', async () => {
  const device = await connect(a);
  const short = collect(b.road.send(testCommand()));
  const drained = a.hub.drain({ timeoutMs: 10_000, reconnectAfterMs: 100, spreadMs: 0 });
  await device.next((frame) => frame.body?.$case === 'drain');
  const long = testCommand();
  const longEnd = collect(c.road.send(long));
  device.succeed((await device.command(1)).id);
  expect(states(await cluster.soon(short)).at(-1)).toBe('succeeded');
  await device.command(2);
  await cluster.clock.advance(11_000);
  expect(await device.closed()).toMatchObject({ mayReconnect: true, retryAfterMs: 0 });
  const second = await connect(b, { inFlight: [long.id] });
  await drained;
  second.succeed(long.id);
  expect(states(await cluster.soon(longEnd)).at(-1)).toBe('succeeded');
});
