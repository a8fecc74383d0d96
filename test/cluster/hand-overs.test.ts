import { afterEach, beforeEach, expect, test } from 'vitest';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { eventually } from '../support/eventually.ts';
import { states, TestCluster, type TestNode } from './cluster.ts';

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

/** What a node gives up is on its way until `give` is called. */
function slowly({ hub }: TestNode) {
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const given = hub.yield.bind(hub);
  hub.yield = async (...args) => {
    const handed = await given(...args);
    asked.resolve();
    await gate.promise;
    return handed;
  };
  return { asked: asked.promise, give: () => gate.resolve() };
}

/** Resolves once another node has asked this one for a client. */
function askedOf({ hub }: TestNode): Promise<void> {
  const asked = Promise.withResolvers<void>();
  const given = hub.yield.bind(hub);
  hub.yield = (...args) => {
    asked.resolve();
    return given(...args);
  };
  return asked.promise;
}

interface Arriving {
  readonly device: ScriptedDevice;
  readonly welcome: Promise<unknown>;
}

function arrive(node: TestNode, inFlight: readonly string[] = []): Arriving {
  const device = scriptedDevice(node.hub);
  const welcome = device.hello({ bootId: 'boot-1', journalId: 'journal-1', inFlight: [...inFlight] });
  welcome.catch(() => undefined);
  return { device, welcome };
}

/** The commands that some node has in hand. */
const inHand = async (node: TestNode): Promise<string[]> =>
  (await node.hub.list({ tenant: 'default', pendingOnly: true, limit: 100 })).map(({ command }) => command.id);

test('a device that moves on while its live commands are being handed over finds them at the third node', async () => {
  const first = arrive(a);
  await first.welcome;
  const commands = Array.from({ length: 4 }, () => testCommand());
  const ends: Promise<CommandUpdate[]>[] = [];
  for (const [i, command] of commands.entries()) {
    ends.push(collect([a, b, c, a][i]!.road.send(command)));
    await eventually(() => a.hub.get('default', command.id));
  }
  await first.device.command(2);
  const begun = commands[0]!.id;
  first.device.send({ $case: 'started', value: { commandId: begun } });
  const answer = slowly(a);
  const second = arrive(b, [begun]);
  await answer.asked;
  const isAsked = askedOf(b);
  const third = arrive(c, [begun]);
  await isAsked;
  answer.give();
  await third.welcome;
  expect(await second.device.closed()).toMatchObject({ mayReconnect: true });
  expect([await inHand(a), await inHand(b)]).toEqual([[], []]);
  expect((await inHand(c)).sort()).toEqual(commands.map(({ id }) => id).sort());
  third.device.succeed(begun);
  // The others were not begun: they are sent anew, in their order.
  for (const [i, { id }] of commands.slice(1).entries()) {
    expect((await third.device.command(i + 1)).id).toBe(id);
    third.device.succeed(id);
  }
  for (const end of ends) expect(states(await cluster.soon(end)).at(-1)).toBe('succeeded');
});

test('a device that comes back while its live commands are being handed over finds them where they were', async () => {
  const first = arrive(a);
  await first.welcome;
  const command = testCommand();
  const updates = collect(c.road.send(command));
  await first.device.command();
  first.device.send({ $case: 'started', value: { commandId: command.id } });
  const answer = slowly(a);
  arrive(b, [command.id]);
  await answer.asked;
  const isAsked = askedOf(b);
  const back = arrive(a, [command.id]);
  await isAsked;
  answer.give();
  await back.welcome;
  expect(await inHand(a)).toEqual([command.id]);
  back.device.succeed(command.id);
  expect(states(await cluster.soon(updates))).toEqual(['queued', 'sent', 'delivered', 'started', 'succeeded']);
});

test('a second stream at the same node waits for what the first one is being handed over', async () => {
  const first = arrive(a);
  await first.welcome;
  const command = testCommand();
  const updates = collect(c.road.send(command));
  await first.device.command();
  first.device.cut();
  const answer = slowly(a);
  arrive(b);
  await answer.asked;
  const again = arrive(b);
  await cluster.clock.advance(10);
  expect(again.device.commands).toEqual([]);
  answer.give();
  await again.welcome;
  // Known to be not begun: it is sent again.
  expect((await again.device.command()).id).toBe(command.id);
  again.device.succeed(command.id);
  expect(states(await cluster.soon(updates)).at(-1)).toBe('succeeded');
});

test('what is handed over too late is let go of, and its caller is told by the node that has the device', async () => {
  const first = arrive(a);
  await first.welcome;
  const command = testCommand({ timeoutMs: 60_000 });
  const updates = collect(a.road.send(command));
  await first.device.command();
  first.device.send({ $case: 'started', value: { commandId: command.id } });
  const answer = slowly(a);
  arrive(b, [command.id]);
  await answer.asked;
  const isAsked = askedOf(b);
  const third = arrive(c, [command.id]);
  await isAsked;
  await cluster.soon(third.welcome, 100);
  answer.give();
  await eventually(async () => expect(await inHand(b)).toEqual([command.id]));
  third.device.succeed(command.id);
  const told = await cluster.soon(updates);
  await cluster.clock.advance(4000);
  expect([await inHand(a), await inHand(b)]).toEqual([[], []]);
  expect(told.at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
  expect(third.device.commands).toEqual([]);
});

/** A store that says `wrong-node` so many times: its client is just moving. */
function movingFor(times: number): { left: number } {
  const { commands } = cluster;
  const moving = { left: times };
  const add = commands.add.bind(commands);
  commands.add = async (...args) => (moving.left-- > 0 ? { kind: 'wrong-node', holder: undefined } : add(...args));
  return moving;
}

test('a queued command that meets `wrong-node` looks again where its client is, and is taken once', async () => {
  const { device, welcome } = arrive(b);
  await welcome;
  const moving = movingFor(3);
  const updates = collect(a.road.send(testCommand({ whenOffline: 'queue' })));
  for (let turns = 0; device.commands.length === 0 && turns < 50; turns++) await cluster.clock.advance(100);
  expect(moving.left).toBeLessThan(0);
  device.succeed((await device.command()).id);
  expect(states(await cluster.soon(updates))).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  expect(device.commands).toHaveLength(1);
});

test('a command that meets `wrong-node` for ever is refused within its time', async () => {
  await arrive(b).welcome;
  movingFor(Number.POSITIVE_INFINITY);
  const beganAt = cluster.clock.monotonic();
  for (const node of [a, b, c]) {
    const refused = collect(node.road.send(testCommand({ whenOffline: 'queue' })));
    await expect(cluster.soon(refused, 100)).rejects.toMatchObject({
      code: expect.stringMatching(/^(unavailable|client-offline)$/),
    });
  }
  // Fifteen seconds for each, at most.
  expect(cluster.clock.monotonic() - beganAt).toBeLessThanOrEqual(3 * 16_000);
});

test('a live command whose holder says that it is elsewhere is sent where that is, or refused within its time', async () => {
  const { device, welcome } = arrive(b);
  await welcome;
  // Node a remembers b as the holder.
  const before = collect(a.road.send(testCommand()));
  device.succeed((await device.command()).id);
  await cluster.soon(before);
  const moved = arrive(c);
  await moved.welcome;
  const updates = collect(a.road.send(testCommand()));
  moved.device.succeed((await moved.device.command()).id);
  expect(states(await cluster.soon(updates)).at(-1)).toBe('succeeded');
  moved.device.cut();
  await cluster.clock.advance(10);
  const beganAt = cluster.clock.monotonic();
  const late = collect(a.road.send(testCommand({ timeoutMs: 2000, waitForConnectMs: 1000 })));
  await expect(cluster.soon(late, 100)).rejects.toMatchObject({ code: 'client-offline' });
  expect(cluster.clock.monotonic() - beganAt).toBeLessThanOrEqual(3200);
});
