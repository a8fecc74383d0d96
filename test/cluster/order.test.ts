import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Command } from '../../src/protocol/command.ts';
import { type ScriptedDevice, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { TestCluster, type TestNode } from './cluster.ts';

let cluster: TestCluster;
let a: TestNode;
let b: TestNode;

beforeEach(async () => {
  cluster = new TestCluster();
  a = await cluster.add('a');
  b = await cluster.add('b');
});
afterEach(() => cluster.close());

async function arrive(node: TestNode): Promise<ScriptedDevice> {
  const device = scriptedDevice(node.hub);
  await device.hello({ bootId: 'boot-1', journalId: 'journal-1' });
  return device;
}

/** Sends by way of a node, and comes back as soon as it is accepted. */
async function accept({ road }: TestNode): Promise<Command> {
  const command = testCommand({ whenOffline: 'queue', timeoutMs: 0 });
  for await (const { state } of road.send(command)) if (state === 'queued') break;
  return command;
}

/** What the device receives, in order, when it answers each. */
async function answered(device: ScriptedDevice, count: number): Promise<string[]> {
  for (let n = 1; n <= count; n++) device.succeed((await device.command(n)).id);
  return device.commands.map(({ id }) => id);
}

test('a device that flaps between nodes gets at the first one again what it has received at neither, in order', async () => {
  const first = await arrive(a);
  const commands = [await accept(a), await accept(b)];
  await first.command(2);
  first.cut();
  const second = await arrive(b);
  commands.push(await accept(a));
  await second.command(3);
  second.cut();
  const third = await arrive(a);
  commands.push(await accept(b));
  expect(await answered(third, 4)).toEqual(commands.map(({ id }) => id));
});

test('a node that did not hear where its device has been sends only what is left, in order', async () => {
  const first = await arrive(a);
  const commands = [await accept(a), await accept(b)];
  await first.command(2);
  // As one that is stopped.
  a.hub.lost = () => undefined;
  a.hub.yield = async () => [];
  first.cut();
  const second = await arrive(b);
  second.succeed((await second.command(1)).id);
  commands.push(await accept(b));
  await second.command(3);
  second.cut();
  const third = await arrive(a);
  commands.push(await accept(a));
  expect(await answered(third, 3)).toEqual(commands.slice(1).map(({ id }) => id));
});
