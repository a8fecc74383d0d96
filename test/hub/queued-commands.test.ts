import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { type CommandStore, Hub, type HubFact, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command } from '../../src/protocol/command.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

const queued = (fields: Partial<Command> = {}): Command =>
  testCommand({ whenOffline: 'queue', timeoutMs: 0, ...fields });
const states = (updates: { state: string }[]): string[] => updates.map(({ state }) => state);

function setUp(options: ConstructorParameters<typeof Hub>[0] = {}) {
  const clock = virtualClock();
  const store = memoryCommandStore();
  const facts: HubFact[] = [];
  const hub = new Hub({ clock, commands: store, random: () => 0.5, observe: (fact) => facts.push(fact), ...options });
  return { clock, store, facts, hub };
}

/** Sends and comes back as soon as it is stored. */
async function enqueue(hub: Hub, command: Command): Promise<void> {
  for await (const update of hub.send(command)) if (update.state === 'queued') return;
}

async function answerAll(device: ScriptedDevice, count: number): Promise<string[]> {
  for (let n = 1; n <= count; n++) device.succeed((await device.command(n)).id);
  return device.commands.map(({ id }) => id);
}

/** Two hubs over one store: the device is `there`, and `here` its command is watched from before it is sent. */
async function watchedElsewhere() {
  const { hub: there, store, clock } = setUp();
  const here = new Hub({ clock, commands: store });
  const command = queued();
  await enqueue(there, command);
  const watched = collect(here.watch('default', command.id));
  await here.get('default', command.id);
  const device = scriptedDevice(there);
  await device.hello({ journalId: 'j1' });
  return { there, here, store, clock, command, watched, device };
}

test('a queued command waits for a client that was never seen, and is sent when it connects', async () => {
  const { hub } = setUp();
  const updates = collect(hub.send(queued()));
  const device = scriptedDevice(hub);
  await device.hello();
  const command = await device.command();
  expect(command).toMatchObject({ finishWithinMs: 0 });
  device.succeed(command.id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test('queued commands leave in the order in which they were accepted, over many pages', async () => {
  const { hub } = setUp();
  const ids: string[] = [];
  for (let i = 0; i < 300; i++) {
    const command = queued();
    ids.push(command.id);
    await enqueue(hub, command);
  }
  const device = scriptedDevice(hub);
  await device.hello({ window: 10 });
  expect(await answerAll(device, 300)).toEqual(ids);
  await hub.close();
});

test('a live command keeps its place behind queued ones that were accepted before it', async () => {
  const { hub } = setUp();
  const before = Array.from({ length: 150 }, () => queued());
  for (const command of before) await enqueue(hub, command);
  const device = scriptedDevice(hub);
  await device.hello({ window: 4 });
  const live = testCommand();
  const updates = collect(hub.send(live));
  const after = queued();
  await enqueue(hub, after);
  expect(await answerAll(device, 152)).toEqual([...before, live, after].map(({ id }) => id));
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('queued commands outlive the hub: a new one over the same store sends them, and none twice', async () => {
  const { hub, store, clock } = setUp();
  const commands = Array.from({ length: 5 }, () => queued());
  for (const command of commands) await enqueue(hub, command);
  const device = scriptedDevice(hub);
  await device.hello({ window: 2, journalId: 'j1' });
  await device.command(2);
  await hub.close();
  const next = new Hub({ clock, commands: store });
  const again = scriptedDevice(next);
  // The device has begun the first; the second never reached its handler.
  await again.hello({ journalId: 'j1', inFlight: [commands[0]!.id] });
  await again.command(4);
  again.succeed(commands[0]!.id);
  expect(again.commands.map(({ id }) => id)).toEqual(commands.slice(1).map(({ id }) => id));
  for (const { id } of commands.slice(1)) again.succeed(id);
  for (const { id } of commands)
    expect((await collect(next.watch('default', id))).at(-1)).toMatchObject({ state: 'succeeded' });
  await next.close();
});

test('after a restart of hub and device without a journal, what was sent is unknown and never sent again', async () => {
  const { hub, store, clock } = setUp();
  const [first, second] = [queued(), queued({ idempotent: true })];
  await enqueue(hub, first);
  await enqueue(hub, second);
  const device = scriptedDevice(hub);
  await device.hello();
  await device.command(2);
  await hub.close();
  const next = new Hub({ clock, commands: store });
  const again = scriptedDevice(next);
  await again.hello();
  expect((await again.command()).id).toBe(second.id);
  expect((await collect(next.watch('default', first.id))).at(-1)).toMatchObject({ state: 'unknown' });
  expect(again.commands).toHaveLength(1);
  again.succeed(second.id);
  await collect(next.watch('default', second.id));
  await next.close();
});

test('a result for a command that this hub has not read yet is taken over', async () => {
  const { hub, store, clock } = setUp();
  const command = queued();
  await enqueue(hub, command);
  const device = scriptedDevice(hub);
  await device.hello({ journalId: 'j1' });
  await device.command();
  await hub.close();
  const next = new Hub({ clock, commands: store });
  const again = scriptedDevice(next);
  const welcome = again.hello({ journalId: 'j1', inFlight: [command.id] });
  again.succeed(command.id);
  await welcome;
  expect((await collect(next.watch('default', command.id))).at(-1)).toMatchObject({ state: 'succeeded' });
  expect(again.commands).toHaveLength(0);
  await next.close();
});

test.each([
  { when: 'before its mailbox is read', isEarly: true },
  { when: 'after its mailbox was read', isEarly: false },
])(
  'what another hub has sent since it was watched here is not sent again, and its result counts $when',
  async ({ isEarly }) => {
    const { there, here, command, watched, device } = await watchedElsewhere();
    await device.command();
    device.cut();
    const again = scriptedDevice(here);
    const welcome = again.hello({ journalId: 'j1', inFlight: [command.id] });
    if (!isEarly) await welcome;
    again.succeed(command.id);
    expect((await watched).at(-1)).toMatchObject({ state: 'succeeded' });
    expect(again.commands).toHaveLength(0);
    await here.close();
    await there.close();
  },
);

test('what another hub has seen begin since it was watched here is unknown where the device has lost it, and never sent again', async () => {
  const { there, here, command, watched, device, store, clock } = await watchedElsewhere();
  device.send({ $case: 'started', value: { commandId: (await device.command()).id } });
  await clock.advance(100);
  expect((await store.get(command.id))?.last.state).toBe('started');
  device.cut();
  const again = scriptedDevice(here);
  await again.hello({ journalId: 'j1' });
  expect((await watched).map(({ state }) => state)).toEqual(['queued', 'started', 'unknown']);
  expect(again.commands).toHaveLength(0);
  await here.close();
  await there.close();
});

test('the newest of the commands with one coalesce key wins; the older are cancelled as superseded', async () => {
  const { hub } = setUp();
  const commands = Array.from({ length: 5 }, () => queued({ coalesceKey: 'config' }));
  const updates = commands.map((command) => collect(hub.send(command)));
  await hub.get('default', commands[4]!.id).catch(() => undefined);
  const device = scriptedDevice(hub);
  await Promise.all(updates.slice(0, 4));
  await device.hello();
  const { id } = await device.command();
  device.succeed(id);
  const ends = (await Promise.all(updates)).map((all) => all.at(-1)!);
  expect(ends.map(({ state }) => state)).toEqual(['cancelled', 'cancelled', 'cancelled', 'cancelled', 'succeeded']);
  expect(ends[0]).toMatchObject({ error: { code: 'superseded' } });
  expect(device.commands).toHaveLength(1);
  await hub.close();
});

test('a command that was sent is not superseded', async () => {
  const { hub } = setUp();
  const device = scriptedDevice(hub);
  await device.hello();
  const first = collect(hub.send(queued({ coalesceKey: 'config' })));
  await device.command(1);
  const second = collect(hub.send(queued({ coalesceKey: 'config' })));
  await answerAll(device, 2);
  expect((await first).at(-1)).toMatchObject({ state: 'succeeded' });
  expect((await second).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('the same idempotency key is the same command, also over a restart; another payload is a conflict', async () => {
  const { hub, store, clock } = setUp();
  const command = queued({ idempotencyKey: 'order-1' });
  await enqueue(hub, command);
  await hub.close();
  const next = new Hub({ clock, commands: store });
  const repeated = collect(next.send(queued({ idempotencyKey: 'order-1' })));
  const other = queued({ idempotencyKey: 'order-1', payload: { type: 'test.Do', value: new Uint8Array([7]) } });
  await expect(collect(next.send(other))).rejects.toMatchObject({ code: 'idempotency-conflict' });
  const device = scriptedDevice(next);
  await device.hello();
  await answerAll(device, 1);
  expect((await repeated).at(-1)).toMatchObject({ commandId: command.id, state: 'succeeded' });
  await next.close();
});

test('the same idempotency key is the same command as long as ended commands are kept, and a new one afterwards', async () => {
  const { hub, clock } = setUp({ historyMs: 600_000, heartbeatMs: 1e9 });
  const device = scriptedDevice(hub);
  await device.hello();
  const idOf = async (): Promise<string> => {
    const updates = collect(hub.send(queued({ idempotencyKey: 'order-1' })));
    while (device.commands.length === 0) await clock.advance(1);
    for (const { id } of device.commands) device.succeed(id);
    return (await updates).at(-1)!.commandId;
  };
  const first = await idOf();
  await clock.advance(590_000);
  expect(await idOf()).toBe(first);
  expect(device.commands).toHaveLength(1);
  // It is looked for once a minute.
  await clock.advance(71_000);
  const updates = collect(hub.send(queued({ idempotencyKey: 'order-1' })));
  const next = await device.command(2);
  device.succeed(next.id);
  expect((await updates).at(-1)).toMatchObject({ commandId: next.id, state: 'succeeded' });
  expect(next.id).not.toBe(first);
  await hub.close();
});

test('a full mailbox is told before acceptance, and other clients do not notice', async () => {
  const { hub } = setUp({ mailboxCommands: 3 });
  for (let i = 0; i < 3; i++) await enqueue(hub, queued());
  await expect(enqueue(hub, queued())).rejects.toMatchObject({ code: 'mailbox-full', retryAfterMs: 1000 });
  await enqueue(hub, queued({ clientId: 'pump-8' }));
  await hub.close();
});

test('a queued command whose time to live is over expires, also of a client that is away, and is never sent', async () => {
  const { hub, clock } = setUp();
  const updates = collect(hub.send(queued({ ttlMs: 5000 })));
  await clock.advance(4900);
  expect(await hub.list({ tenant: 'default', pendingOnly: true, limit: 10 })).toHaveLength(1);
  await clock.advance(1200);
  expect((await updates).at(-1)).toMatchObject({ state: 'expired', error: { code: 'timed-out' } });
  const device = scriptedDevice(hub);
  await device.hello();
  await clock.advance(100);
  expect(device.commands).toHaveLength(0);
  await hub.close();
});

test('a sent command of which nothing is heard ends as unknown, after the wait for its result', async () => {
  const { hub, clock } = setUp({ resultWaitMs: 10_000, heartbeatMs: 1_000_000 });
  const updates = collect(hub.send(queued({ ttlMs: 5000 })));
  const device = scriptedDevice(hub);
  await device.hello();
  await device.command();
  device.cut();
  await clock.advance(14_000);
  await clock.advance(3000);
  expect((await updates).at(-1)).toMatchObject({ state: 'unknown', error: { code: 'timed-out' } });
  await hub.close();
});

test('a cancel of a command that waits is certain; it is never sent', async () => {
  const { hub } = setUp();
  const command = queued();
  const updates = collect(hub.send(command));
  await hub.list({ tenant: 'default', limit: 1 });
  expect(await hub.cancel('default', command.id, 'changed my mind')).toMatchObject({ state: 'cancelled' });
  expect((await updates).at(-1)).toMatchObject({ state: 'cancelled', error: { message: 'changed my mind' } });
  const device = scriptedDevice(hub);
  await device.hello();
  await enqueue(hub, queued());
  await device.command();
  expect(device.commands.map(({ id }) => id)).not.toContain(command.id);
  await hub.close();
});

test('a command that was sent, then cancelled while its device was away and had not begun it, is cancelled', async () => {
  const { hub } = setUp();
  const command = queued();
  const updates = collect(hub.send(command));
  const device = scriptedDevice(hub);
  await device.hello({ journalId: 'j1' });
  await device.command();
  device.cut();
  expect(await hub.cancel('default', command.id, 'too late')).toMatchObject({ state: 'sent' });
  const again = scriptedDevice(hub);
  await again.hello({ journalId: 'j1' });
  expect((await updates).at(-1)).toMatchObject({ state: 'cancelled' });
  expect(again.commands).toHaveLength(0);
  await hub.close();
});

test('while the store fails nothing is accepted, live commands go on, and afterwards all goes on', async () => {
  const inner = memoryCommandStore();
  let isBroken = false;
  const failing = new Proxy(inner, {
    get(target, name) {
      const method = target[name as keyof CommandStore] as (...args: unknown[]) => Promise<unknown>;
      return (...args: unknown[]) =>
        isBroken ? Promise.reject(new HubError('unavailable', 'disk full')) : method.apply(target, args);
    },
  });
  const { hub, clock, facts } = setUp({ commands: failing });
  const waiting = queued();
  await enqueue(hub, waiting);
  isBroken = true;
  await expect(enqueue(hub, queued())).rejects.toMatchObject({ code: 'unavailable', message: 'disk full' });
  const device = scriptedDevice(hub);
  await device.hello();
  const live = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id);
  expect((await live).at(-1)).toMatchObject({ state: 'succeeded' });
  expect(facts.some(({ kind }) => kind === 'store-failed')).toBe(true);
  isBroken = false;
  await clock.advance(2000);
  expect((await device.command(2)).id).toBe(waiting.id);
  isBroken = true;
  device.succeed(waiting.id);
  await clock.advance(5000);
  // Not acknowledged, so the device keeps the result.
  expect(device.frames.at(-1)?.ack).toBeLessThan(device.sent);
  expect((await hub.get('default', waiting.id)).last.state).toBe('delivered');
  isBroken = false;
  await clock.advance(2000);
  expect((await hub.get('default', waiting.id)).last.state).toBe('succeeded');
  await clock.advance(100);
  expect(device.frames.at(-1)?.ack).toBe(device.sent);
  await hub.close();
});

test('a client that is away keeps nothing of its mailbox in memory, and is forgotten without a trace', async () => {
  const { hub } = setUp({ resumeWindowMs: 0, rememberedClients: 0 });
  const device = scriptedDevice(hub);
  await device.hello({ window: 1 });
  for (let i = 0; i < 100; i++) await enqueue(hub, queued());
  await device.command();
  device.succeed(device.commands[0]!.id);
  await device.command(2);
  device.succeed(device.commands[1]!.id);
  await hub.get('default', device.commands[1]!.id);
  device.send({ $case: 'goodbye', value: { reason: 1, message: '', mayReconnect: false, retryAfterMs: 0 } });
  const info = hub.clients.get('default', 'pump-7');
  expect(info?.pendingCommands ?? 0).toBeLessThanOrEqual(1);
  const again = scriptedDevice(hub);
  await again.hello({ journalId: device.commands.length ? 'other' : 'other' });
  await again.command();
  expect(again.commands[0]!.id).not.toBe(device.commands[0]!.id);
  await hub.close();
});

test('a hub without a store says so', async () => {
  const hub = new Hub({ clock: virtualClock() });
  await expect(collect(hub.send(queued()))).rejects.toMatchObject({ code: 'unimplemented' });
  await hub.close();
});

test('a send that is aborted while it is being stored is cancelled for certain, and its caller is told', async () => {
  const clock = virtualClock();
  const store = memoryCommandStore();
  const { promise: written, resolve: write } = Promise.withResolvers<void>();
  const add = store.add.bind(store);
  store.add = (...args) => written.then(() => add(...args));
  const hub = new Hub({ clock, commands: store });
  const device = scriptedDevice(hub);
  await device.hello();
  await clock.advance(1);
  const abort = new AbortController();
  const updates = collect(hub.send(testCommand({ whenOffline: 'queue' }), { signal: abort.signal }));
  abort.abort();
  await clock.advance(1);
  write();
  expect((await updates).map(({ state }) => state)).toEqual(['queued', 'cancelled']);
  await clock.advance(100);
  expect(device.commands).toEqual([]);
  await hub.close();
});

test('aborting a send that repeats an idempotency key asks for a cancel of the command that it repeats', async () => {
  const clock = virtualClock();
  const hub = new Hub({ clock, commands: memoryCommandStore() });
  const first = testCommand({ whenOffline: 'queue', idempotencyKey: 'k' });
  const told = collect(hub.send(first));
  const abort = new AbortController();
  const repeated = collect(
    hub.send(testCommand({ whenOffline: 'queue', idempotencyKey: 'k' }), { signal: abort.signal }),
  );
  await clock.advance(1);
  abort.abort();
  expect((await repeated).at(-1)).toMatchObject({ commandId: first.id, state: 'cancelled' });
  expect((await told).at(-1)?.state).toBe('cancelled');
  await hub.close();
});

test('a stored result is acknowledged by the next frame, or soon after, and an event at once', async () => {
  const { hub, clock } = setUp({ log: memoryEventLog() });
  const device = scriptedDevice(hub);
  await device.hello();
  const frames = (): number[] => device.frames.slice(1).map(({ ack }) => ack);
  const answer = async (nth: number) => device.succeed((await device.command(nth)).id);

  await enqueue(hub, queued());
  await answer(1);
  await clock.advance(30);
  expect(frames()).toEqual([0]);
  await enqueue(hub, queued());
  expect(frames()).toEqual([0, 1]);
  await answer(2);
  await clock.advance(50);
  expect(frames()).toEqual([0, 1, 2]);
  device.send({ $case: 'event', value: { number: 1, name: 'temperature', json: '70', atMs: 0 } });
  await clock.advance(2);
  expect(frames()).toEqual([0, 1, 2, 3]);
  await hub.close();
});
