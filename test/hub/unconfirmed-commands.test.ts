import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { type CommandStore, Hub, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command } from '../../src/protocol/command.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

const queued = (): Command => testCommand({ whenOffline: 'queue', timeoutMs: 0 });
const idsOf = (...commands: readonly Command[]): string[] => commands.map(({ id }) => id);

/** A store whose `add` goes as `add` says, and a hub over it with a device that has answered one command. */
async function setUp(add: (store: CommandStore['add']) => CommandStore['add']) {
  const store = memoryCommandStore();
  const stored = store.add.bind(store);
  const hub = new Hub({ clock: virtualClock(), commands: store, random: () => 0.5 });
  const device = scriptedDevice(hub);
  await device.hello();
  const first = queued();
  await enqueue(hub, first);
  await answer(device, 1);
  store.add = add(stored);
  return { hub, device, first };
}

/** Stores, and fails to say so, where `isUnsure` holds of the command. */
const unconfirmed =
  (isUnsure: (command: Command) => boolean) =>
  (stored: CommandStore['add']): CommandStore['add'] =>
  async (command, options) => {
    const outcome = await stored(command, options);
    if (isUnsure(command)) throw new HubError('unavailable', 'no replica has confirmed the write in time');
    return outcome;
  };

/** Sends and comes back as soon as it is stored. */
async function enqueue(hub: Hub, command: Command): Promise<void> {
  for await (const update of hub.send(command)) if (update.state === 'queued') return;
}

/** Answers the commands from number `from` to `count`. What the device has received, in order. */
async function answer(device: ScriptedDevice, count: number, from = 1): Promise<string[]> {
  for (let n = from; n <= count; n++) device.succeed((await device.command(n)).id);
  return device.commands.map(({ id }) => id);
}

test('a command whose storing was not confirmed keeps the place that it has in the store', async () => {
  const unsure = queued();
  let isConfirming = false;
  const { hub, device, first } = await setUp(unconfirmed(() => !isConfirming));
  await expect(collect(hub.send(unsure))).rejects.toMatchObject({ code: 'unavailable' });
  isConfirming = true;
  const later = queued();
  await enqueue(hub, later);
  const updates = collect(hub.send(unsure));
  expect(await answer(device, 3, 2)).toEqual(idsOf(first, unsure, later));
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

for (const how of ['sent', 'watched'] as const)
  test(`one that was stored after the hub had given it up goes before what its caller sends once it is ${how} again`, async () => {
    const unsure = queued();
    let storeNow = async (): Promise<unknown> => undefined;
    const { hub, device, first } = await setUp((stored) => async (command, options) => {
      if (command !== unsure) return stored(command, options);
      storeNow = () => stored(command, options);
      throw new HubError('unavailable', 'no answer in time');
    });
    await expect(collect(hub.send(unsure))).rejects.toMatchObject({ code: 'unavailable' });
    // What the hub reads of the mailbox now does not have it yet.
    const between = queued();
    await enqueue(hub, between);
    await answer(device, 2, 2);
    await storeNow();
    const again = how === 'sent' ? hub.send({ ...unsure }) : hub.watch('default', unsure.id);
    for await (const { state } of again) if (state === 'queued') break;
    const later = queued();
    await enqueue(hub, later);
    expect(await answer(device, 4, 3)).toEqual(idsOf(first, between, unsure, later));
    await hub.close();
  });

test('of two commands whose stored answers come in the other order none is passed over', async () => {
  const slow = queued();
  const gate = Promise.withResolvers<void>();
  const { hub, device } = await setUp((stored) => async (command, options) => {
    const outcome = await stored(command, options);
    if (command === slow) await gate.promise;
    return outcome;
  });
  const accepted = enqueue(hub, slow);
  await enqueue(hub, queued());
  gate.resolve();
  await accepted;
  expect(await answer(device, 3, 2)).toContain(slow.id);
  await hub.close();
});
