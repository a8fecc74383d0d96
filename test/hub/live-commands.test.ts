import { expect, test } from 'vitest';
import type { HubFact } from '../../src/hub/index.ts';
import { Hub } from '../../src/hub/index.ts';
import { collect, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';
import { footprint } from '../support/footprint.ts';

const states = (updates: { state: string }[]): string[] => updates.map(({ state }) => state);

async function connected(options: ConstructorParameters<typeof Hub>[0] = {}) {
  const clock = virtualClock();
  const facts: HubFact[] = [];
  const hub = new Hub({ clock, random: () => 0.5, observe: (fact) => facts.push(fact), ...options });
  const device = scriptedDevice(hub);
  const welcome = await device.hello({ bootId: 'boot-1' });
  return { hub, clock, device, facts, welcome };
}

test('a live command is told as queued, sent, delivered and succeeded, with the result of the device', async () => {
  const { hub, device } = await connected();
  const command = testCommand();
  const updates = collect(hub.send(command));
  const received = await device.command();
  expect(received).toMatchObject({
    id: command.id,
    payload: { type: 'test.Do' },
    startWithinMs: 30_000,
    finishWithinMs: 30_000,
  });
  device.succeed(command.id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test('delivered means that the device acknowledged it, not that it was written', async () => {
  const { hub, device } = await connected();
  const iterator = hub.send(testCommand())[Symbol.asyncIterator]();
  expect((await iterator.next()).value).toMatchObject({ state: 'queued' });
  expect((await iterator.next()).value).toMatchObject({ state: 'sent' });
  let delivered = false;
  const next = iterator.next().then((result) => {
    delivered = true;
    return result;
  });
  device.send({ $case: 'ping', value: { nonce: 1 } }, { ack: 0 });
  await device.next((frame) => frame.body?.$case === 'pong');
  expect(delivered).toBe(false);
  device.acknowledge();
  expect((await next).value).toMatchObject({ state: 'delivered' });
  await hub.close();
});

test('old fault: after a disconnect the client is offline, and a send fails instead of succeeding', async () => {
  const { hub, device } = await connected();
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(true);
  device.cut();
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
  await expect(collect(hub.send(testCommand()))).rejects.toMatchObject({ code: 'client-offline' });
  await hub.close();
});

test('old fault: a second stream with the same id takes over, and the first is told and closed', async () => {
  const { hub, device, welcome } = await connected();
  const second = scriptedDevice(hub);
  const { epoch } = await second.hello({ bootId: 'boot-2' });
  expect(epoch).toBeGreaterThan(welcome.epoch);
  expect(await device.closed()).toMatchObject({ reason: 2, mayReconnect: true, retryAfterMs: 1000 });
  const updates = collect(hub.send(testCommand()));
  const { id } = await second.command();
  expect(device.commands).toHaveLength(0);
  second.succeed(id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('nothing that the old stream does after a takeover counts', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand({ idempotent: true })));
  const { id } = await device.command();
  const second = scriptedDevice(hub);
  await second.hello({ bootId: 'boot-2' });
  device.succeed(id);
  expect((await hub.get('default', id)).last.state).toBe('sent');
  await second.command();
  second.end(id, 'failed');
  expect((await updates).at(-1)).toMatchObject({ state: 'failed' });
  await hub.close();
});

test('two devices that fight for one id are told to come back later and later, and it is reported', async () => {
  const { hub, device, facts } = await connected();
  let old = device;
  const hints: (number | undefined)[] = [];
  for (let i = 0; i < 5; i++) {
    const next = scriptedDevice(hub);
    await next.hello({ bootId: `fighter-${i}` });
    hints.push((await old.closed())?.retryAfterMs);
    old = next;
  }
  expect(hints).toEqual([1000, 2000, 4000, 8000, 16000]);
  expect(facts.filter(({ kind }) => kind === 'client-contended')).toHaveLength(3);
  await hub.close();
});

test('old fault: a command that was sent when the stream dropped is not lost: a resumed session gives it again', async () => {
  const { hub, device, welcome } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  const resumed = await again.hello({ bootId: 'boot-1', resume: { session: welcome.session, lastSeq: 0 } });
  expect(resumed).toMatchObject({ resumed: true, session: welcome.session, lastSeq: 0 });
  expect((await again.command()).id).toBe(id);
  again.succeed(id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test('a resumed session does not give again what the device says it has, and counts it as delivered', async () => {
  const { hub, device, welcome } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-1', resume: { session: welcome.session, lastSeq: 1 } });
  expect(again.commands).toHaveLength(0);
  again.succeed(id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test.each([
  ['of the future', { session: 'own', lastSeq: 99 }],
  ['of another session', { session: 'foreign', lastSeq: 0 }],
])('a resume %s begins a new session', async (_, resume) => {
  const { hub, device, welcome } = await connected();
  device.cut();
  const again = scriptedDevice(hub);
  const session = resume.session === 'own' ? welcome.session : resume.session;
  const second = await again.hello({ bootId: 'boot-1', resume: { ...resume, session } });
  expect(second.resumed).toBe(false);
  expect(second.session).not.toBe(welcome.session);
  await hub.close();
});

test('a lost session can be resumed until its window is over, not after', async () => {
  const { hub, device, welcome, clock } = await connected({ resumeWindowMs: 1000 });
  device.cut();
  await clock.advance(1100);
  const again = scriptedDevice(hub);
  expect((await again.hello({ bootId: 'boot-1', resume: { session: welcome.session, lastSeq: 0 } })).resumed).toBe(
    false,
  );
  await hub.close();
});

test('a device that comes and goes and takes nothing costs one outbox, not one for each time', async () => {
  const { hub, device, clock } = await connected({
    resumeWindowMs: 1e9,
    rememberedBytes: 0,
    graceMs: 0,
    heartbeatMs: 1e9,
  });
  device.cut();
  const base = footprint().bytes;
  for (let turn = 0; turn < 60; turn++) {
    const next = scriptedDevice(hub);
    await next.hello({ bootId: `boot-${turn}` });
    const value = new Uint8Array(1_000_000).fill(turn);
    void collect(hub.send(testCommand({ timeoutMs: 1000, payload: { type: 'test.Do', value } })));
    await next.command();
    next.cut();
    await clock.advance(2000);
  }
  expect((footprint().bytes - base) / 2 ** 20).toBeLessThan(10);
  await hub.close();
});

test('a device that resumes its session again and again and takes nothing holds on to no command that has ended', async () => {
  const value = new Uint8Array(100_000);
  const send = () => testCommand({ timeoutMs: 1000, payload: { type: 'test.Do', value } });
  const { hub, device, clock, welcome } = await connected({ graceMs: 0, heartbeatMs: 1e9 });
  const resume = { session: welcome.session, lastSeq: 0 };
  let newest = device;
  for (let turn = 1; turn <= 60; turn++) {
    const updates = collect(hub.send(send()));
    await newest.command();
    expect(hub.load).toEqual({ sessions: 1, outboxBytes: value.length });
    newest.cut();
    await clock.advance(2000);
    expect(states(await updates).at(-1)).toBe('unknown');
    newest = scriptedDevice(hub);
    expect(await newest.hello({ bootId: 'boot-1', resume })).toMatchObject({ resumed: true });
    expect(hub.load).toEqual({ sessions: 1, outboxBytes: 0 });
    // Their numbers were given away: it is given as many empty frames.
    expect(newest.frames.filter(({ seq }) => seq > 0).map(({ body }) => body)).toEqual(Array(turn).fill(undefined));
  }
  // It reads at last, and all is well.
  const updates = collect(hub.send(send()));
  newest.succeed((await newest.command()).id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test('a device that reads and never acknowledges holds on to no command that has ended', async () => {
  const value = new Uint8Array(100_000);
  const { hub, device, clock } = await connected({ graceMs: 0, heartbeatMs: 1e9, window: 8 });
  for (let turn = 1; turn <= 10; turn++) {
    const all = Array.from({ length: 8 }, () =>
      collect(hub.send(testCommand({ timeoutMs: 1000, payload: { type: 'test.Do', value } }))),
    );
    await device.command(8 * turn);
    expect(hub.load.outboxBytes).toBe(8 * value.length);
    await clock.advance(2000);
    expect(new Set((await Promise.all(all)).map((updates) => updates.at(-1)?.state))).toEqual(new Set(['unknown']));
    expect(hub.load.outboxBytes).toBe(0);
  }
  // Of the oldest ones, that are not there any more, and of the newest.
  device.send(undefined, { ack: 40 });
  device.send(undefined, { ack: 80 });
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command(81)).id);
  expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  await hub.close();
});

test('a device that comes back with its journal and has not begun a command is given it again', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-2', journalId: 'boot-1' });
  expect((await again.command()).id).toBe(id);
  again.succeed(id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('a device that comes back and has begun a command is waited for, not asked again', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-2', journalId: 'boot-1', inFlight: [id] });
  expect(again.commands).toHaveLength(0);
  again.succeed(id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('a device that lost its journal is never given the command again: its outcome is unknown', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand()));
  await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-2' });
  expect((await updates).at(-1)).toMatchObject({ state: 'unknown', error: { code: 'outcome-unknown' } });
  expect(again.commands).toHaveLength(0);
  await hub.close();
});

test('a device that lost its journal is given an idempotent command again', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand({ idempotent: true })));
  await device.command();
  device.cut();
  const again = scriptedDevice(hub);
  await again.hello({ bootId: 'boot-2' });
  again.succeed((await again.command()).id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('old fault: a silent peer does not outlive its liveness time', async () => {
  const { hub, device, clock, facts } = await connected({ heartbeatMs: 15_000, livenessMs: 10_000 });
  await clock.advance(15_100);
  expect(device.frames.filter(({ body }) => body?.$case === 'ping')).toHaveLength(1);
  await clock.advance(10_100);
  expect(device.isClosed).toBe(true);
  expect(device.wasReset).toBe(true);
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
  expect(facts.at(-1)).toMatchObject({ kind: 'session-closed', reason: 'liveness' });
  await hub.close();
});

test('a peer that answers pings lives on, and its round trip is known', async () => {
  const { hub, device, clock } = await connected();
  for (let i = 1; i <= 5; i++) {
    await clock.advance(15_100);
    const pings = device.frames.filter(({ body }) => body?.$case === 'ping');
    expect(pings).toHaveLength(i);
    device.send({ $case: 'pong', value: { nonce: i } });
  }
  expect(device.isClosed).toBe(false);
  expect(hub.clients.get('default', 'pump-7')?.roundTripMs).toBeTypeOf('number');
  await hub.close();
});

test('a frame that cannot be read ends one stream with a reason, and no other', async () => {
  const { hub, device } = await connected();
  const other = scriptedDevice(hub);
  await other.hello({ clientId: 'pump-8' });
  device.malformed();
  expect(await device.closed()).toMatchObject({
    reason: 4,
    mayReconnect: false,
    message: 'a frame could not be read: garbage',
  });
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
  expect(hub.clients.isConnected('default', 'pump-8')).toBe(true);
  await hub.close();
});

test('old fault: a request without an answer ends, and leaves nothing behind', async () => {
  const { hub, device, clock } = await connected({ graceMs: 1000 });
  const updates = collect(hub.send(testCommand({ timeoutMs: 5000 })));
  await device.command();
  device.acknowledge();
  await clock.advance(5100);
  expect(device.frames.at(-1)?.body).toMatchObject({ $case: 'cancel', value: { reason: 'timed out' } });
  device.acknowledge();
  await clock.advance(1100);
  expect((await updates).at(-1)).toMatchObject({ state: 'unknown', error: { code: 'timed-out' } });
  expect(hub.clients.get('default', 'pump-7')?.pendingCommands).toBe(0);
  await hub.close();
});

test('a device that answers within the grace decides how an overdue command ended', async () => {
  const { hub, device, clock } = await connected({ graceMs: 1000 });
  const updates = collect(hub.send(testCommand({ timeoutMs: 5000 })));
  const { id } = await device.command();
  await clock.advance(5100);
  device.end(id, 'cancelled', 'cancelled');
  expect((await updates).at(-1)).toMatchObject({ state: 'cancelled' });
  await hub.close();
});

test('a command that was never sent expires at its deadline, and is not sent later', async () => {
  const { hub, device, clock } = await connected();
  device.stall();
  const first = collect(hub.send(testCommand()));
  const second = collect(hub.send(testCommand({ timeoutMs: 5000 })));
  await clock.advance(5100);
  expect((await second).at(-1)).toMatchObject({ state: 'expired', error: { code: 'timed-out' } });
  device.unstall();
  expect(device.commands).toHaveLength(1);
  device.succeed(device.commands[0]!.id);
  await first;
  await hub.close();
});

test('old fault: a client cannot answer the command of another client', async () => {
  const { hub, device, facts } = await connected();
  const thief = scriptedDevice(hub);
  await thief.hello({ clientId: 'pump-8' });
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  thief.succeed(id);
  expect((await hub.get('default', id)).last.state).toBe('sent');
  expect(facts.at(-1)).toMatchObject({ kind: 'frame-ignored', clientId: 'pump-8', code: 'permission-denied' });
  expect(thief.isClosed).toBe(false);
  device.end(id, 'failed');
  expect((await updates).at(-1)).toMatchObject({ state: 'failed' });
  await hub.close();
});

test('the first terminal state stands: later results change nothing and are acknowledged', async () => {
  const { hub, device, facts, clock } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  device.succeed(id);
  device.end(id, 'failed');
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  expect((await hub.get('default', id)).last.state).toBe('succeeded');
  expect(facts.at(-1)).toMatchObject({ kind: 'frame-ignored' });
  await clock.advance(100);
  expect(device.frames.at(-1)).toMatchObject({ seq: 0, ack: 2 });
  await hub.close();
});

test('a command of another tenant does not exist', async () => {
  const { hub, device } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id } = await device.command();
  await expect(hub.get('other', id)).rejects.toMatchObject({ code: 'not-found' });
  await expect(hub.cancel('other', id, '')).rejects.toMatchObject({ code: 'not-found' });
  await expect(collect(hub.watch('other', id))).rejects.toMatchObject({ code: 'not-found' });
  await expect(collect(hub.send(testCommand({ tenant: 'other' })))).rejects.toMatchObject({ code: 'client-offline' });
  await expect(collect(hub.send(testCommand({ id, tenant: 'other' })))).rejects.toMatchObject({
    code: 'idempotency-conflict',
  });
  device.succeed(id);
  await updates;
  await hub.close();
});

test('the same id, or the same idempotency key, is the same command', async () => {
  const { hub, device } = await connected();
  const command = testCommand({ idempotencyKey: 'k1' });
  const first = collect(hub.send(command));
  const byId = collect(hub.send(command));
  const byKey = collect(hub.send(testCommand({ idempotencyKey: 'k1' })));
  await device.command();
  device.succeed(command.id);
  for (const updates of [await first, await byId, await byKey])
    expect(updates.at(-1)).toMatchObject({ commandId: command.id, state: 'succeeded' });
  expect(device.commands).toHaveLength(1);
  const other = testCommand({ idempotencyKey: 'k1', payload: { type: 'test.Do', value: new Uint8Array([9]) } });
  await expect(collect(hub.send(other))).rejects.toMatchObject({ code: 'idempotency-conflict' });
  await hub.close();
});

test('no more commands are out than the window; the rest waits in order', async () => {
  const { hub } = await connected();
  const small = scriptedDevice(hub);
  await small.hello({ clientId: 'small', window: 2 });
  const sends = Array.from({ length: 5 }, () => collect(hub.send(testCommand({ clientId: 'small' }))));
  await small.command(2);
  expect(small.commands).toHaveLength(2);
  for (let n = 1; n <= 5; n++) small.succeed((await small.command(n)).id);
  const ids = (await Promise.all(sends)).map((updates) => updates.at(-1)?.commandId);
  expect(small.commands.map(({ id }) => id)).toEqual(ids);
  await hub.close();
});

test('a full wire stops the writing; the waiting room has a limit that is told; nobody else notices', async () => {
  const { hub, device } = await connected({ waitingCommands: 3 });
  const healthy = scriptedDevice(hub);
  await healthy.hello({ clientId: 'pump-8' });
  device.stall();
  const sends = Array.from({ length: 4 }, () => collect(hub.send(testCommand())));
  await expect(collect(hub.send(testCommand()))).rejects.toMatchObject({
    code: 'unavailable',
    message: 'client pump-7 has 3 commands (9 bytes) waiting, the limits are 3 and 8388608',
    retryAfterMs: 1000,
  });
  const beside = collect(hub.send(testCommand({ clientId: 'pump-8' })));
  healthy.succeed((await healthy.command()).id);
  expect((await beside).at(-1)).toMatchObject({ state: 'succeeded' });
  device.unstall();
  for (let n = 1; n <= 4; n++) device.succeed((await device.command(n)).id);
  await Promise.all(sends);
  await hub.close();
});

test('a stream that takes nothing for too long is told so and reset', async () => {
  const { hub, device, clock, facts } = await connected({ stallMs: 5000 });
  device.stall();
  const updates = collect(hub.send(testCommand({ timeoutMs: 60_000 })));
  await device.command();
  await clock.advance(5100);
  expect(device.isClosed).toBe(true);
  expect(facts.at(-1)).toMatchObject({ kind: 'session-closed', reason: 'slow-consumer' });
  await clock.advance(60_000);
  expect((await updates).at(-1)).toMatchObject({ state: 'unknown' });
  await hub.close();
});

test('waitForConnectMs waits for the client, and fails with client-offline when it does not come', async () => {
  const { hub, clock } = await connected();
  const waiting = collect(hub.send(testCommand({ clientId: 'late', waitForConnectMs: 5000 })));
  await clock.advance(1000);
  const late = scriptedDevice(hub);
  await late.hello({ clientId: 'late' });
  late.succeed((await late.command()).id);
  expect(states(await waiting)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  const tooLate = collect(hub.send(testCommand({ clientId: 'never', waitForConnectMs: 5000 })));
  const failed = expect(tooLate).rejects.toMatchObject({
    code: 'client-offline',
    message: 'client never did not connect within 5000 ms',
  });
  await clock.advance(5100);
  await failed;
  expect(hub.clients.get('default', 'never')).toBeUndefined();
  await hub.close();
});

test('aborting asks the device to stop, and the terminal update still comes', async () => {
  const { hub, device } = await connected();
  const abort = new AbortController();
  const updates = collect(hub.send(testCommand(), { signal: abort.signal }));
  const { id } = await device.command();
  abort.abort();
  await device.next(({ body }) => body?.$case === 'cancel' && body.value.commandId === id);
  device.end(id, 'cancelled', 'cancelled');
  expect((await updates).at(-1)).toMatchObject({ state: 'cancelled' });
  await hub.close();
});

test('aborting a command that still waits cancels it for certain', async () => {
  const { hub, device } = await connected();
  device.stall();
  const first = collect(hub.send(testCommand()));
  const abort = new AbortController();
  const second = collect(hub.send(testCommand(), { signal: abort.signal }));
  abort.abort();
  expect((await second).at(-1)).toMatchObject({ state: 'cancelled' });
  device.unstall();
  expect(device.commands).toHaveLength(1);
  device.succeed(device.commands[0]!.id);
  await first;
  await hub.close();
});

test('leaving the loop stops the watching, not the command; it can be watched again from its start', async () => {
  const { hub, device } = await connected();
  const command = testCommand();
  for await (const update of hub.send(command)) if (update.state === 'sent') break;
  device.send({ $case: 'started', value: { commandId: command.id } });
  const watched = collect(hub.watch('default', command.id));
  await hub.get('default', command.id);
  device.succeed(command.id);
  expect(states(await watched)).toEqual(['queued', 'sent', 'delivered', 'started', 'succeeded']);
  expect(states(await collect(hub.watch('default', command.id)))).toHaveLength(5);
  await hub.close();
});

test('items arrive one by one and in order; plain progress is thinned, and the newest of it is told', async () => {
  const { hub, device, clock } = await connected();
  const updates = collect(hub.send(testCommand()));
  const { id: commandId } = await device.command();
  const item = (n: number) => ({ type: 'test.Item', value: new Uint8Array([n]) });
  for (let n = 0; n < 50; n++)
    device.send({
      $case: 'progress',
      value: { commandId, progress: { fraction: undefined, note: '', item: item(n), itemNumber: 0 } },
    });
  for (let n = 0; n < 100; n++)
    device.send({
      $case: 'progress',
      value: { commandId, progress: { fraction: n / 100, note: '', item: undefined, itemNumber: 0 } },
    });
  await clock.advance(200);
  device.send({
    $case: 'progress',
    value: { commandId, progress: { fraction: 1, note: 'nearly', item: undefined, itemNumber: 0 } },
  });
  device.succeed(commandId);
  const progress = (await updates).flatMap((update) => (update.state === 'progress' ? [update.progress] : []));
  expect(progress.filter(({ item }) => item).map(({ item }) => item?.value[0])).toEqual(
    Array.from({ length: 50 }, (_, n) => n),
  );
  const plain = progress.filter(({ item }) => !item).map(({ fraction }) => fraction);
  expect(plain.length).toBeLessThan(5);
  expect(plain).toContain(0.99);
  expect(plain.at(-1)).toBe(1);
  await hub.close();
});

test.each([Number.NaN, -1, 1e308, Number.POSITIVE_INFINITY])(
  'progress of %d is refused and changes nothing',
  async (fraction) => {
    const { hub, device, facts } = await connected();
    const updates = collect(hub.send(testCommand()));
    const { id: commandId } = await device.command();
    device.send({
      $case: 'progress',
      value: { commandId, progress: { fraction, note: '', item: undefined, itemNumber: 0 } },
    });
    expect(facts.at(-1)).toMatchObject({ kind: 'frame-ignored', code: 'invalid-argument' });
    device.succeed(commandId);
    expect((await updates).filter(({ state }) => state === 'progress')).toHaveLength(0);
    await hub.close();
  },
);

test('a reader that never reads fails alone, and the command goes on', async () => {
  const { hub, device } = await connected({ unreadUpdates: 16 });
  const command = testCommand();
  const lazy = hub.send(command)[Symbol.asyncIterator]();
  await lazy.next();
  await device.command();
  for (let n = 0; n < 40; n++)
    device.send({
      $case: 'progress',
      value: {
        commandId: command.id,
        progress: { fraction: undefined, note: '', item: { type: 't', value: new Uint8Array(1) }, itemNumber: 0 },
      },
    });
  const read = async (): Promise<void> => {
    while (!(await lazy.next()).done);
  };
  await expect(read()).rejects.toMatchObject({ code: 'resource-exhausted' });
  const watched = collect(hub.watch('default', command.id));
  await hub.get('default', command.id);
  device.succeed(command.id);
  expect((await watched).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('a drain refuses new work, tells devices, waits for what runs, and says goodbye', async () => {
  const { hub, device } = await connected();
  const running = collect(hub.send(testCommand()));
  const { id } = await device.command();
  const drained = hub.drain({ reconnectAfterMs: 500, spreadMs: 1000 });
  expect(device.frames.at(-1)?.body).toMatchObject({
    $case: 'drain',
    value: { reconnectAfterMs: 500, spreadMs: 1000 },
  });
  await expect(collect(hub.send(testCommand()))).rejects.toMatchObject({ code: 'unavailable', retryAfterMs: 1000 });
  const newcomer = scriptedDevice(hub);
  await expect(newcomer.hello({ clientId: 'new' })).rejects.toThrow('the hub is shutting down');
  expect(device.isClosed).toBe(false);
  device.succeed(id);
  expect((await running).at(-1)).toMatchObject({ state: 'succeeded' });
  await drained;
  expect(await device.closed()).toMatchObject({ reason: 3, mayReconnect: true, retryAfterMs: 1000 });
  await hub.close();
});

test('closing ends what is left: what was sent is unknown, what may be repeated or was not sent is expired', async () => {
  const { hub, device } = await connected();
  const sent = collect(hub.send(testCommand()));
  const repeatable = collect(hub.send(testCommand({ idempotent: true })));
  await device.command(2);
  const waiting = collect(hub.send(testCommand({ clientId: 'x', waitForConnectMs: 1000 })));
  const refused = expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
  await hub.close();
  expect((await sent).at(-1)).toMatchObject({ state: 'unknown', error: { code: 'hub-closed' } });
  expect((await repeatable).at(-1)).toMatchObject({ state: 'expired', error: { code: 'hub-closed' } });
  await refused;
});

test('after everything is closed no timer is left', async () => {
  const { hub, device, clock } = await connected();
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id);
  await updates;
  await hub.close();
  expect(clock.pending).toBe(0);
});

test('old fault: an observer that throws ends nothing', async () => {
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  const { hub, device } = await connected({
    observe: () => {
      throw new Error('bad observer');
    },
  });
  const updates = collect(hub.send(testCommand()));
  device.succeed((await device.command()).id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  expect((await warned).message).toContain('bad observer');
  await hub.close();
});

test('room that is made at a reconnect goes to what is sent again, before anything newer', async () => {
  const { hub } = await connected();
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'narrow', window: 2, journalId: 'j1' });
  const lost = collect(hub.send(testCommand({ clientId: 'narrow' })));
  const again = testCommand({ clientId: 'narrow', idempotent: true });
  const repeated = collect(hub.send(again));
  await device.command(2);
  const newer = testCommand({ clientId: 'narrow' });
  const waiting = collect(hub.send(newer));
  const back = scriptedDevice(hub);
  await back.hello({ clientId: 'narrow', window: 2, journalId: 'j2' });
  expect((await lost).at(-1)).toMatchObject({ state: 'unknown' });
  await back.command(2);
  expect(back.commands.map(({ id }) => id)).toEqual([again.id, newer.id]);
  back.succeed(again.id);
  back.succeed(newer.id);
  await Promise.all([repeated, waiting]);
  await hub.close();
});

test('a device that is never silent is pinged now and then, so that its round trip is known', async () => {
  const { hub, device, clock } = await connected();
  const pings = () => device.frames.flatMap(({ body }) => (body?.$case === 'ping' ? [body.value.nonce] : []));
  let answered = 0;
  for (let second = 0; second < 150; second++) {
    await clock.advance(1000);
    device.acknowledge();
    for (const nonce of pings().slice(answered)) {
      device.send({ $case: 'pong', value: { nonce } });
      answered++;
    }
  }
  expect(answered).toBeGreaterThanOrEqual(2);
  expect(answered).toBeLessThanOrEqual(4);
  expect(hub.clients.get('default', 'pump-7')?.roundTripMs).toBeTypeOf('number');
  await hub.close();
});
