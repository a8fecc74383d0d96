import { expect, test } from 'vitest';
import type { EventLog, LogEvent } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { collect, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

async function setUp() {
  const clock = virtualClock();
  const log = memoryEventLog({ clock });
  const hub = new Hub({ clock, log, commands: memoryCommandStore() });
  const device = scriptedDevice(hub);
  await device.hello({ bootId: 'boot-1' });
  return { hub, clock, log, device };
}

async function eventsOf(log: EventLog, channel: string): Promise<readonly LogEvent[]> {
  return (await log.read(`default/${channel}`, { epoch: log.epoch, seq: 0 }, 1000)).events;
}

const types = (events: readonly LogEvent[]): string[] => events.map(({ type }) => type);

test('channel client.<id> tells presence, the updates of its commands and the events of the device, in order', async () => {
  const { hub, log, device } = await setUp();
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id, { type: 'test.Done', value: new Uint8Array([104, 105]) });
  await updates;
  device.send({ $case: 'event', value: { number: 1, name: 'temperature', json: '{"celsius":71}', atMs: 0 } });
  device.cut();
  const events = await eventsOf(log, 'client.pump-7');
  expect(types(events)).toEqual([
    'client.connected',
    'command.sent',
    'command.delivered',
    'command.succeeded',
    'temperature',
    'client.disconnected',
  ]);
  expect(JSON.parse(events[3]!.json())).toMatchObject({
    channel: 'client.pump-7',
    seq: 4,
    data: { clientId: 'pump-7', state: 'succeeded', result: { type: 'test.Done', base64: 'aGk=' } },
  });
  expect(JSON.parse(events[4]!.json())).toMatchObject({ type: 'temperature', data: { celsius: 71 } });
  expect(JSON.parse(events[5]!.json())).toMatchObject({
    data: { reason: 'lost', client: { id: 'pump-7', connected: false } },
  });
  await hub.close();
});

test('whoever reads later hears of each step at the time at which it was taken', async () => {
  const { hub, clock, log, device } = await setUp();
  const begun = clock.now();
  const command = testCommand();
  const updates = collect(hub.send(command));
  const { id } = await device.command();
  await clock.advance(20);
  device.acknowledge();
  await clock.advance(30);
  device.send({ $case: 'started', value: { commandId: id } });
  await clock.advance(50);
  device.succeed(id);
  await updates;
  await clock.advance(1000);
  const times = (events: readonly LogEvent[]): string[] =>
    events.filter(({ type }) => type.startsWith('command.')).map(({ type, atMs }) => `${type} ${atMs - begun}`);
  const steps = ['command.sent 0', 'command.delivered 20', 'command.started 50', 'command.succeeded 100'];
  expect(times(await eventsOf(log, 'client.pump-7'))).toEqual(steps);
  expect(times(await eventsOf(log, `command.${command.id}`))).toEqual(['command.queued 0', ...steps]);
  await hub.close();
});

test("old fault: one client's commands and events never show up on another client's channel", async () => {
  const { hub, log, device } = await setUp();
  const other = scriptedDevice(hub);
  await other.hello({ clientId: 'pump-8' });
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id);
  await updates;
  device.send({ $case: 'event', value: { number: 1, name: 'temperature', json: '1', atMs: 0 } });
  expect(types(await eventsOf(log, 'client.pump-8'))).toEqual(['client.connected']);
  await hub.close();
});

test('channel command.<id> tells the life of one command, and fleet who comes and goes', async () => {
  const { hub, log, device } = await setUp();
  const command = testCommand();
  const updates = collect(hub.send(command));
  device.end((await device.command()).id, 'failed', 'jammed', 'the rotor is jammed');
  await updates;
  device.cut();
  const life = await eventsOf(log, `command.${command.id}`);
  expect(types(life)).toEqual(['command.queued', 'command.sent', 'command.delivered', 'command.failed']);
  expect(JSON.parse(life[3]!.json())).toMatchObject({
    data: { error: { code: 'jammed', message: 'the rotor is jammed' } },
  });
  expect(types(await eventsOf(log, 'fleet'))).toEqual(['client.connected', 'client.disconnected']);
  await hub.close();
});

test('an event that a device sends again after a lost acknowledgement is kept once', async () => {
  const { hub, log, device } = await setUp();
  device.send({ $case: 'event', value: { number: 1, name: 'temperature', json: '70', atMs: 0 } });
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-1' });
  again.send({ $case: 'event', value: { number: 1, name: 'temperature', json: '70', atMs: 0 } });
  again.send({ $case: 'event', value: { number: 2, name: 'temperature', json: '71', atMs: 0 } });
  await hub.list({ tenant: 'default', limit: 1 });
  const told = (await eventsOf(log, 'client.pump-7')).filter(({ type }) => type === 'temperature');
  expect(told.map((event) => JSON.parse(event.json()).data)).toEqual([70, 71]);
  await hub.close();
});

test('an event is acknowledged only once it is kept', async () => {
  const clock = virtualClock();
  const inner = memoryEventLog({ clock });
  const kept: (() => void)[] = [];
  const log: EventLog = {
    ...inner,
    epoch: inner.epoch,
    append: (channel, event) =>
      event.durable ? new Promise((resolve) => kept.push(resolve)) : inner.append(channel, event),
    read: (...args) => inner.read(...args),
  };
  const hub = new Hub({ clock, log });
  const device = scriptedDevice(hub);
  await device.hello();
  for (const number of [1, 2, 3]) device.send({ $case: 'event', value: { number, name: 'x', json: '1', atMs: 0 } });
  await clock.advance(1000);
  expect(device.frames.at(-1)?.ack).toBe(0);
  kept[1]!();
  await clock.advance(1000);
  expect(device.frames.at(-1)?.ack).toBe(0);
  kept[0]!();
  await clock.advance(1000);
  expect(device.frames.at(-1)?.ack).toBe(2);
  kept[2]!();
  await clock.advance(1000);
  expect(device.frames.at(-1)?.ack).toBe(3);
  await hub.close();
});

test('who watches a live command late is told every step and every item that it has yielded', async () => {
  const { hub, log, device } = await setUp();
  const command = testCommand();
  const updates = collect(hub.send(command));
  await device.command();
  for (const n of [1, 2, 3]) {
    const item = { type: 'test.N', value: new Uint8Array([n]) };
    const progress = { fraction: undefined, note: '', item, itemNumber: 0 };
    device.send({ $case: 'progress', value: { commandId: command.id, progress } });
  }
  device.succeed(command.id);
  await updates;
  expect(types(await eventsOf(log, `command.${command.id}`))).toEqual([
    'command.queued',
    'command.sent',
    'command.delivered',
    'command.progress',
    'command.progress',
    'command.progress',
    'command.succeeded',
  ]);
  await hub.close();
});

test("a queued command's channel tells all that was, also after the hub has let go of the command", async () => {
  const clock = virtualClock();
  const log = memoryEventLog({ clock });
  const hub = new Hub({ clock, log, commands: memoryCommandStore() });
  const command = testCommand({ whenOffline: 'queue' });
  for await (const update of hub.send(command)) if (update.state === 'queued') break;
  expect(types(await eventsOf(log, `command.${command.id}`))).toEqual(['command.queued']);
  const device = scriptedDevice(hub);
  await device.hello();
  device.end((await device.command()).id, 'failed', 'jammed', 'the rotor is jammed');
  const [ended] = (await collect(hub.watch('default', command.id))).slice(-1);
  expect(ended).toMatchObject({ state: 'failed' });
  const life = ['command.queued', 'command.sent', 'command.delivered', 'command.failed'];
  expect(types(await eventsOf(log, `command.${command.id}`))).toEqual(life);
  expect(types(await eventsOf(log, 'client.pump-7'))).toEqual(['command.queued', 'client.connected', ...life.slice(1)]);
  await hub.close();
});

test('who waits at the channel of a live command before it is sent is told each step, also where it has to wait', async () => {
  const { hub, log, device } = await setUp();
  for (const isLate of [false, true]) {
    const command = testCommand(isLate ? { clientId: 'late', waitForConnectMs: 1000 } : {});
    const letGo = log.watch(`default/command.${command.id}`, () => undefined);
    const updates = collect(hub.send(command));
    const receiver = isLate ? scriptedDevice(hub) : device;
    if (isLate) await receiver.hello({ clientId: 'late' });
    receiver.succeed((await receiver.command()).id);
    await updates;
    const steps = ['queued', 'sent', 'delivered', 'succeeded'].map((state) => `command.${state}`);
    expect(types(await eventsOf(log, `command.${command.id}`))).toEqual(steps);
    letGo();
  }
  await hub.close();
});

test('who waits at the channel of a queued command before it is sent is told each step as it is taken', async () => {
  const clock = virtualClock();
  const log = memoryEventLog({ clock });
  const hub = new Hub({ clock, log, commands: memoryCommandStore() });
  const command = testCommand({ whenOffline: 'queue' });
  let calls = 0;
  const stop = log.watch(`default/command.${command.id}`, () => calls++);
  const device = scriptedDevice(hub);
  await device.hello();
  const updates = collect(hub.send(command));
  device.succeed((await device.command()).id);
  await updates;
  await new Promise((resolve) => setImmediate(resolve));
  expect(calls).toBeGreaterThan(0);
  stop();
  expect(types(await eventsOf(log, `command.${command.id}`))).toEqual([
    'command.queued',
    'command.sent',
    'command.delivered',
    'command.succeeded',
  ]);
  await hub.close();
});
