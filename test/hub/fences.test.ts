import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import type { DeviceStreamListener } from '../../src/hub/device-stream.ts';
import { Hub, type HubFact, memoryCommandStore } from '../../src/hub/index.ts';
import { stateToProto } from '../../src/protocol/convert.ts';
import type { DownFrame } from '../../src/protocol/frames.ts';
import { collect, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

// Small fences that only show when something is missing at just the wrong moment.

test('what arrives on a stream after the hub has ended it changes nothing', async () => {
  const clock = virtualClock();
  const hub = new Hub({ clock });
  const sent: DownFrame[] = [];
  // A wire that goes on delivering what was on its way.
  const stream = {
    peer: 'slow',
    send: (frame: DownFrame) => sent.push(frame) > 0,
    close: () => undefined,
    reset: () => undefined,
  };
  const listener: DeviceStreamListener = hub.accept(stream, { tenant: 'default' });
  const hello = {
    clientId: 'pump-7',
    bootId: 'a',
    journalId: 'a',
    protocol: 1,
    labels: {},
    resume: undefined,
    inFlight: [],
    window: 0,
    agent: '',
  };
  listener.onFrame({ seq: 0, ack: 0, body: { $case: 'hello', value: hello } });
  const updates = collect(hub.send(testCommand({ id: 'late' })));
  await clock.advance(1);
  expect(sent.at(-1)?.body?.$case).toBe('command');
  const newer = scriptedDevice(hub);
  await newer.hello({ bootId: 'b', inFlight: ['late'] });
  const payload = { type: 'stale', value: Buffer.alloc(0) };
  listener.onFrame({
    seq: 1,
    ack: 1,
    body: {
      $case: 'result',
      value: { commandId: 'late', state: stateToProto('succeeded'), payload, error: undefined },
    },
  });
  await clock.advance(1);
  newer.succeed('late');
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
  await hub.close();
});

test('only the same boot of a device resumes its session', async () => {
  const hub = new Hub({ clock: virtualClock() });
  const first = scriptedDevice(hub);
  const { session } = await first.hello({ bootId: 'a' });
  first.cut();
  const restarted = await scriptedDevice(hub).hello({ bootId: 'b', resume: { session, lastSeq: 0 } });
  expect(restarted).toMatchObject({ resumed: false });
  expect(restarted.session).not.toBe(session);
  await hub.close();
});

test('epochs rise also when two streams come in the same millisecond, or the clock goes back', async () => {
  const clock = virtualClock();
  let backMs = 0;
  const hub = new Hub({ clock: { ...clock, now: () => clock.now() - backMs } });
  const epochs: number[] = [];
  for (let i = 0; i < 3; i++) {
    epochs.push((await scriptedDevice(hub).hello()).epoch);
    backMs += i * 60_000;
  }
  expect(epochs[1]).toBeGreaterThan(epochs[0]!);
  expect(epochs[2]).toBeGreaterThan(epochs[1]!);
  await hub.close();
});

test('a queued command whose time is over is not sent, although nobody has looked at it since', async () => {
  const clock = virtualClock();
  const hub = new Hub({ clock, commands: memoryCommandStore() });
  const updates = collect(hub.send(testCommand({ whenOffline: 'queue', ttlMs: 200 })));
  await clock.advance(300);
  const device = scriptedDevice(hub);
  await device.hello();
  await clock.advance(100);
  expect(device.commands).toEqual([]);
  await clock.advance(2000);
  expect((await updates).at(-1)).toMatchObject({ state: 'expired' });
  await hub.close();
});

test('a stream ends with the credential that opened it', async () => {
  const clock = virtualClock();
  const hub = new Hub({ clock });
  const device = scriptedDevice(hub, { tenant: 'default', expiresAtMs: clock.now() + 5000 });
  await device.hello();
  await clock.advance(4900);
  expect(device.isClosed).toBe(false);
  await clock.advance(200);
  expect(await device.closed()).toMatchObject({ message: 'the credential has expired', mayReconnect: true });
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
  await hub.close();
});

test('a stored command is not written before the store has marked it as sent', async () => {
  const clock = virtualClock();
  const store = memoryCommandStore();
  const marked = Promise.withResolvers<void>();
  const markSent = store.markSent.bind(store);
  store.markSent = (...args) => marked.promise.then(() => markSent(...args));
  const hub = new Hub({ clock, commands: store });
  void collect(hub.send(testCommand({ whenOffline: 'queue' })));
  await clock.advance(1);
  const device = scriptedDevice(hub);
  await device.hello();
  await clock.advance(500);
  expect(device.commands).toEqual([]);
  marked.resolve();
  await clock.advance(1);
  expect(device.commands).toHaveLength(1);
  device.succeed(device.commands[0]!.id);
  await clock.advance(1);
  await hub.close();
});

test('the end of a command that its store has lost is told to who waits for it', async () => {
  const clock = virtualClock();
  const store = memoryCommandStore();
  const facts: HubFact[] = [];
  const hub = new Hub({ clock, commands: store, observe: (fact) => facts.push(fact) });
  const device = scriptedDevice(hub);
  await device.hello();
  const command = testCommand({ whenOffline: 'queue', timeoutMs: 0 });
  const updates = collect(hub.send(command));
  await device.command();
  store.finish = async ({ commandId }) => {
    throw new HubError('not-found', `no stored command ${commandId}`);
  };
  device.succeed(command.id);
  await clock.advance(1);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  expect(facts).toContainEqual(expect.objectContaining({ kind: 'store-failed' }));
  await hub.close();
});
