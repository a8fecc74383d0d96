import { afterEach, beforeEach, expect, test } from 'vitest';
import { collect, testCommand } from '../../src/testing/index.ts';
import { connect, states, TestCluster, type TestNode } from './cluster.ts';

let cluster: TestCluster;
let a: TestNode;
let b: TestNode;
let c: TestNode;
/** The store came back empty. */
let isEmpty = false;

beforeEach(async () => {
  isEmpty = false;
  cluster = new TestCluster();
  const { commands } = cluster;
  const get = commands.get.bind(commands);
  commands.get = async (id) => (isEmpty ? undefined : get(id));
  a = await cluster.add('a');
  b = await cluster.add('b');
  c = await cluster.add('c');
});
afterEach(() => cluster.close());

/** As after a kill -9: nothing more is heard of it, and its lease ends in its time. */
async function dies(node: TestNode): Promise<void> {
  node.kill();
  node.membership.close = async () => undefined;
  await cluster.directory.leave(node.membership.instance);
  await Promise.all([b, c].map(({ membership }) => membership.refreshNodes()));
}

const of = { clientId: 'pump-7' };

test('what was under way at a node that died ends as it truly did: its device tells the next node, however late it comes', async () => {
  for (const [afterMs, isToldFirst] of [
    [0, true],
    [0, false],
    [15_000, false],
    [15_000, true],
  ] as const) {
    const first = await connect(a);
    const command = testCommand({ timeoutMs: 60_000 });
    const updates = collect(b.road.send(command));
    await first.command();
    await dies(a);
    await cluster.clock.advance(afterMs);
    const second = await connect(c, { inFlight: [command.id] });
    if (isToldFirst) second.succeed(command.id);
    await cluster.clock.advance(1000);
    if (!isToldFirst) second.succeed(command.id);
    const told = await cluster.soon(updates);
    expect(told.at(-1)).toMatchObject({ state: 'succeeded', commandId: command.id, result: { type: 'test.Done' } });
    expect(told.filter(({ state }) => state === 'succeeded')).toHaveLength(1);
    expect(second.commands).toEqual([]);
    // And whoever asks later is told the same.
    expect(states(await cluster.soon(collect(b.road.watch('default', command.id, of)))).at(-1)).toBe('succeeded');
    a = await cluster.add(`a${afterMs}${isToldFirst}`);
  }
});

test('who lost its node finds its command by id and client at another one, once the device is there', async () => {
  const first = await connect(a);
  const [begun, never] = [testCommand({ timeoutMs: 60_000 }), testCommand({ timeoutMs: 60_000 })];
  for (const command of [begun, never]) void collect(a.road.send(command)).catch(() => undefined);
  await first.command(2);
  await dies(a);
  // It may come back with its device: whoever waits asks again.
  await expect(collect(b.road.watch('default', begun.id, of))).rejects.toMatchObject({ code: 'unavailable' });
  const second = await connect(c, { inFlight: [begun.id] });
  const updates = collect(b.road.watch('default', begun.id, of));
  await cluster.clock.advance(100);
  await expect(cluster.soon(collect(b.road.watch('default', never.id, of)))).rejects.toMatchObject({
    code: 'not-found',
  });
  second.succeed(begun.id);
  expect(states(await cluster.soon(updates))).toEqual(['queued', 'started', 'succeeded']);
});

test('a cancel reaches the device, whose new node knows the command by its journal alone', async () => {
  const first = await connect(a);
  const command = testCommand({ timeoutMs: 60_000 });
  const updates = collect(a.road.send(command)).catch(() => undefined);
  await first.command();
  await dies(a);
  const second = await connect(c, { inFlight: [command.id] });
  expect(await b.road.cancel('default', command.id, 'enough', of)).toMatchObject({ state: 'started' });
  await second.next((frame) => frame.body?.$case === 'cancel' && frame.body.value.commandId === command.id);
  second.end(command.id, 'cancelled');
  expect(states(await cluster.soon(collect(b.road.watch('default', command.id, of)))).at(-1)).toBe('cancelled');
  // Nor can anybody else's cancel: the id alone is not enough.
  await expect(b.road.cancel('default', command.id, 'enough', { clientId: 'pump-8' })).rejects.toMatchObject({
    code: 'not-found',
  });
  await cluster.soon(updates);
});

test('a caller who leaves while its command’s node is gone is heard as soon as the device is back, however late', async () => {
  const first = await connect(a);
  const command = testCommand({ timeoutMs: 60_000 });
  const aborter = new AbortController();
  const updates = collect(b.road.send(command, { signal: aborter.signal }));
  await first.command();
  await dies(a);
  aborter.abort();
  for (let seconds = 0; seconds < 20; seconds++) await cluster.clock.advance(1000);
  const second = await connect(c, { inFlight: [command.id] });
  for (let turns = 0; turns < 4; turns++) await cluster.clock.advance(500);
  const isCancel = (frame: (typeof second.frames)[number]) => frame.body?.$case === 'cancel';
  await second.next(isCancel);
  second.end(command.id, 'cancelled');
  expect((await cluster.soon(updates)).at(-1)).toMatchObject({ state: 'cancelled' });
  // Asked once, not again and again.
  expect(second.frames.filter(isCancel)).toHaveLength(1);
});

test('a device can say of any id that it has begun it, and tells nothing by that of others’ commands', async () => {
  const first = await connect(a);
  const command = testCommand({ timeoutMs: 60_000 });
  void collect(a.road.send(command)).catch(() => undefined);
  await first.command();
  const liar = await connect(c, { clientId: 'liar', inFlight: [command.id] });
  liar.succeed(command.id, { type: 'test.Forged', value: new Uint8Array() });
  await cluster.clock.advance(100);
  expect(await b.road.get('default', command.id, of)).toMatchObject({ last: { state: 'sent' } });
  await dies(a);
  await expect(b.road.get('default', command.id)).rejects.toMatchObject({ code: 'not-found' });
  await expect(c.hub.get('default', command.id, of)).rejects.toMatchObject({ code: 'not-found' });
});

test('a node that was stopped while its device moved sends those who wait there to the device, and nobody is told two ends', async () => {
  const first = await connect(a);
  const command = testCommand({ timeoutMs: 60_000 });
  const [here, there] = [collect(a.road.send(command)), collect(b.road.watch('default', command.id, of))];
  await first.command();
  const mend = cluster.cut(a);
  const second = await connect(c, { inFlight: [command.id] });
  mend();
  second.succeed(command.id);
  for (const updates of [here, there]) {
    const told = await cluster.soon(updates);
    expect(told.at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
  }
  expect(first.isClosed).toBe(true);
});

test('who waits for a queued command that the store has lost is told that nobody knows', async () => {
  const command = testCommand({ whenOffline: 'queue' });
  const updates = collect(b.road.send(command));
  await cluster.clock.advance(3000);
  isEmpty = true;
  const told = await cluster.soon(updates);
  expect(told.at(-1)).toMatchObject({ state: 'unknown', error: { code: 'outcome-unknown' } });
});

test('the clients of a node that was killed are shown as away by the others once its lease is over, also to who watches them', async () => {
  await connect(a, { labels: { site: 'north' } });
  await connect(b, { clientId: 'pump-8' });
  const seen: string[] = [];
  const letGo = c.road.clients.onChange('default', ({ id, connected }) => seen.push(`${id} ${connected}`));
  await cluster.clock.advance(0);
  // It renews nothing and says nothing any more.
  a.kill();
  a.membership.renew = () => new Promise(() => undefined);
  a.membership.close = async () => undefined;
  const connected = async (node: TestNode): Promise<string[]> =>
    (await node.road.clients.list('default', { connectedOnly: true })).map(({ id }) => id);
  await cluster.clock.advance(2000);
  expect(await connected(b)).toEqual(['pump-7', 'pump-8']);
  for (let turns = 0; turns < 24; turns++) await cluster.clock.advance(500);
  for (const node of [b, c]) {
    expect(await connected(node)).toEqual(['pump-8']);
    expect(await node.road.clients.list('default')).toMatchObject([
      { id: 'pump-7', connected: false, node: '', labels: { site: 'north' } },
      { id: 'pump-8', connected: true, node: 'b' },
    ]);
    expect(await node.road.clients.get('default', 'pump-7')).toMatchObject({ connected: false, node: '' });
  }
  for (let turns = 0; turns < 24; turns++) await cluster.clock.advance(500);
  expect(seen.filter((one) => one.startsWith('pump-7'))).toEqual(['pump-7 false']);
  letGo();
  // Nor are commands for it sent anywhere.
  await expect(cluster.soon(collect(b.road.send(testCommand())))).rejects.toMatchObject({ code: 'client-offline' });
});
