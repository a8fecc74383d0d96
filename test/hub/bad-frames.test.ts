import { expect, test } from 'vitest';
import { Hub, type HubFact } from '../../src/hub/index.ts';
import type { Hello } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';

function setUp() {
  const facts: HubFact[] = [];
  const clock = virtualClock();
  const hub = new Hub({ clock, observe: (fact) => facts.push(fact) });
  return { hub, facts, clock, device: scriptedDevice(hub) };
}

const hellos: [string, Partial<Hello>, string][] = [
  ['an empty client id', { clientId: '' }, 'client id "" is not valid'],
  ['a client id of 129 characters', { clientId: 'a'.repeat(129) }, 'client id "aaaa'],
  ['a client id with a control character', { clientId: 'a\nb' }, 'client id "a\\nb" is not valid'],
  ['a client id that climbs', { clientId: '../etc' }, 'client id "../etc" is not valid'],
  ['a client id of braces', { clientId: '{}' }, 'client id "{}" is not valid'],
  ['a client id that is a star', { clientId: '*' }, 'client id "*" is not valid'],
  ['another protocol', { protocol: 2 }, 'protocol 2 is not spoken here, 1 is'],
  ['an empty journal id', { journalId: '' }, 'journal id has 0 characters'],
  [
    '65 labels',
    { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, 'x'])) },
    'number of labels "65"',
  ],
  [
    'a label with a line break',
    { labels: { site: 'a\r\nevent: forged' } },
    'label "site" "a\\r\\nevent: forged" is not valid',
  ],
];

test.each(hellos)('a hello with %s is refused with a reason', async (_, hello, message) => {
  const { hub, device } = setUp();
  await expect(device.hello(hello)).rejects.toThrow(message);
  expect(await device.closed()).toMatchObject({ reason: 4, mayReconnect: false });
  expect(hub.clients.list('default')).toEqual([]);
  await hub.close();
});

test("a hello with a client id that is not the credential's is refused", async () => {
  const hub = new Hub({ clock: virtualClock() });
  const device = scriptedDevice(hub, { tenant: 'default', clientId: 'pump-1' });
  await expect(device.hello({ clientId: 'pump-2' })).rejects.toThrow(
    'client id "pump-2" is not the credential\'s, "pump-1"',
  );
  expect(await device.closed()).toMatchObject({ reason: 9, mayReconnect: false });
  const named = scriptedDevice(hub, { tenant: 'default', clientId: 'pump-1' });
  expect(await named.hello({ clientId: '' })).toMatchObject({ clientId: 'pump-1' });
  await hub.close();
});

test('a first frame that is no hello, and silence, are refused', async () => {
  const { hub, device, clock } = setUp();
  device.send({ $case: 'ping', value: { nonce: 1 } });
  expect(await device.closed()).toMatchObject({ message: 'the first frame has to be a hello, it was ping' });
  const silent = scriptedDevice(hub);
  await clock.advance(10_100);
  expect(await silent.closed()).toMatchObject({ message: 'no hello within 10000 ms' });
  await hub.close();
});

const breaches: [string, (device: ScriptedDevice) => void, string][] = [
  ['a second hello', (device) => void device.hello().catch(() => undefined), 'a second hello came'],
  [
    'an acknowledgement of a frame never sent',
    (device) => device.send(undefined, { ack: 7 }),
    'ack 7 is of a frame that was never sent',
  ],
  [
    'a frame with a hole before it',
    (device) => device.send({ $case: 'started', value: { commandId: 'x' } }, { seq: 5 }),
    'frame 5 came after 0',
  ],
  [
    'a result without a number',
    (device) => device.send({ $case: 'started', value: { commandId: 'x' } }, { seq: 0 }),
    'a started came without a number',
  ],
];

test.each(breaches)('%s ends that stream with a reason, and no other', async (_, breach, message) => {
  const { hub, device } = setUp();
  const healthy = scriptedDevice(hub);
  await healthy.hello({ clientId: 'healthy' });
  await device.hello();
  breach(device);
  const goodbye = await device.closed();
  expect(goodbye).toMatchObject({ reason: 4, mayReconnect: false });
  expect(goodbye?.message).toContain(message);
  const updates = collect(hub.send(testCommand({ clientId: 'healthy' })));
  healthy.succeed((await healthy.command()).id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await hub.close();
});

test('results and progress for commands nobody knows are acknowledged, reported and change nothing', async () => {
  const { hub, device, facts, clock } = setUp();
  await device.hello();
  device.succeed('nobody-knows');
  device.send({ $case: 'progress', value: { commandId: 'nobody-knows', progress: undefined } });
  device.send({ $case: 'event', value: { number: 1, name: 'hub.forged', json: '{}', atMs: 0 } });
  device.send({ $case: 'event', value: { number: 2, name: 'temperature', json: '{broken', atMs: 0 } });
  await clock.advance(100);
  expect(device.frames.at(-1)).toMatchObject({ ack: 4 });
  expect(facts.filter(({ kind }) => kind === 'frame-ignored')).toMatchObject([
    { code: 'not-found' },
    { code: 'not-found' },
    { code: 'invalid-argument' },
    { code: 'invalid-argument' },
  ]);
  expect(device.isClosed).toBe(false);
  await hub.close();
});

const commands: [string, Parameters<typeof testCommand>[0], string][] = [
  ['an empty id', { id: '' }, 'command id "" is not valid'],
  ['a timeout of 0', { timeoutMs: 0 }, 'timeoutMs "0" is not valid'],
  ['a timeout that is no number', { timeoutMs: Number.NaN }, 'timeoutMs "NaN" is not valid'],
  ['a ttl of 0', { whenOffline: 'queue', ttlMs: 0 }, 'ttlMs "0" is not valid'],
  ['a ttl of -1', { whenOffline: 'queue', ttlMs: -1 }, 'ttlMs "-1" is not valid'],
  ['a ttl of 2^63', { whenOffline: 'queue', ttlMs: 2 ** 63 }, 'ttlMs "9223372036854776000" is not valid'],
  [
    'a payload one byte over the limit',
    { payload: { type: 't', value: new Uint8Array(1024 * 1024 + 1) } },
    'payload has 1048577 bytes, the limit is 1048576',
  ],
  [
    'a type with a line break',
    { payload: { type: 'a\nb', value: new Uint8Array() } },
    'payload type "a\\nb" is not valid',
  ],
  ['a coalesce key on a live command', { coalesceKey: 'config' }, 'coalesceKey "config" is for queued commands'],
];

test.each(commands)('a command with %s is refused before it is accepted', async (_, fields, message) => {
  const { hub, device } = setUp();
  await device.hello();
  await expect(collect(hub.send(testCommand(fields)))).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringContaining(message),
  });
  expect(device.commands).toHaveLength(0);
  await hub.close();
});
