import { expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command } from '../../src/protocol/command.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

type Road = (hub: Hub, command: Command) => Promise<unknown>;

// The shortcuts have to give what following every update gives: here all do the same things.
const roads: Record<string, Road> = {
  send: async (hub, command) => (await collect(hub.send(command))).at(-1),
  brief: async (hub, command) => (await collect(hub.send(command, { brief: true }))).at(-1),
  settle: (hub, command) => hub.settle(command, (end) => end),
};

const cases: [string, Partial<Command>, (device: ScriptedDevice, id: string) => void, string][] = [
  ['succeeds', {}, (device, id) => device.succeed(id), 'succeeded'],
  ['fails', {}, (device, id) => device.end(id, 'failed'), 'failed'],
  ['is rejected', {}, (device, id) => device.end(id, 'rejected'), 'rejected'],
  ['is never answered', { timeoutMs: 5000 }, () => undefined, 'unknown'],
  ['may be repeated and is never answered', { timeoutMs: 5000, idempotent: true }, () => undefined, 'expired'],
  ['is queued and succeeds', { whenOffline: 'queue', timeoutMs: 0 }, (device, id) => device.succeed(id), 'succeeded'],
];

for (const [name, road] of Object.entries(roads)) {
  test.each(cases)(`${name}: a command that %s`, async (_, fields, act, state) => {
    const clock = virtualClock();
    await using hub = new Hub({ clock, commands: memoryCommandStore() });
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand(fields);
    const end = road(hub, command);
    await device.command();
    act(device, command.id);
    await clock.advance(7000);
    expect(await end).toMatchObject({ commandId: command.id, clientId: 'pump-7', state });
    await hub.close();
    expect(clock.pending).toBe(0);
  });

  test.each<[string, Partial<Command>, string]>([
    ['of a client that is away', { clientId: 'nobody' }, 'client-offline'],
    ['of a client that does not come', { clientId: 'nobody', waitForConnectMs: 1000 }, 'client-offline'],
    ['with a bad id', { id: '' }, 'invalid-argument'],
    ['that is queued without a store', { whenOffline: 'queue' }, 'unimplemented'],
  ])(`${name}: a command %s is refused`, async (_, fields, code) => {
    const clock = virtualClock();
    await using hub = new Hub({ clock });
    const refused = road(hub, testCommand(fields)).then(
      () => 'accepted',
      (error: unknown) => toHubError(error).code,
    );
    await clock.advance(1500);
    expect(await refused).toBe(code);
  });

  test(`${name}: a repeated id is the same command, and the close of the hub ends it`, async () => {
    const hub = new Hub({ clock: virtualClock() });
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand();
    const ends = [road(hub, command), road(hub, command)];
    await device.command();
    await hub.close();
    expect(device.commands).toHaveLength(1);
    expect(await Promise.all(ends)).toMatchObject([{ state: 'unknown' }, { state: 'unknown' }]);
  });
}

test('who asks for that is told of acceptance and end alone, whenever it comes', async () => {
  const clock = virtualClock();
  await using hub = new Hub({ clock, commands: memoryCommandStore() });
  const device = scriptedDevice(hub);
  await device.hello();
  const command = testCommand({ whenOffline: 'queue', timeoutMs: 0 });
  const brief = async () => (await collect(hub.send(command, { brief: true }))).map(({ state }) => state);
  const early = brief();
  const { id } = await device.command();
  device.send({ $case: 'started', value: { commandId: id } });
  const late = brief();
  device.succeed(id);
  await clock.advance(0);
  expect([await early, await late, await brief()]).toEqual(Array(3).fill(['queued', 'succeeded']));
});

test('who reads the end and throws is told that, and the hub has ended the command all the same', async () => {
  await using hub = new Hub();
  const device = scriptedDevice(hub);
  await device.hello();
  const command = testCommand();
  const read = hub.settle(command, () => {
    throw new Error('no such pump');
  });
  await device.command();
  device.succeed(command.id);
  await expect(read).rejects.toThrow('no such pump');
  expect((await hub.get('default', command.id)).last.state).toBe('succeeded');
  const next = testCommand();
  const state = hub.settle(next, (end) => end.state);
  await device.command(2);
  device.succeed(next.id);
  expect(await state).toBe('succeeded');
});
