import { beforeAll, expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { EventReader } from '../../src/events/event-reader.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { Hub, type HubFact, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command } from '../../src/protocol/command.ts';
import type { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import type { Hello } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';
import { costsNothing, footprint } from '../support/footprint.ts';

// One hub for all: what one device or caller does wrong must not be felt by the next, nor by those that do well beside it.
const clock = virtualClock();
const facts: HubFact[] = [];
const log = memoryEventLog();
const hub = new Hub({
  clock,
  random: () => 0.5,
  log,
  commands: memoryCommandStore(),
  heartbeatMs: 1e8,
  resumeWindowMs: 1000,
  mailboxCommands: 1000,
  observe: (fact) => facts.push(fact),
});
let healthy: ScriptedDevice;
let watcher: EventReader;
let beats = 0;
const seen: string[] = [];

beforeAll(async () => {
  healthy = scriptedDevice(hub);
  await healthy.hello({ clientId: 'healthy' });
  watcher = new EventReader(log, { channels: ['default/client.healthy'] });
});

/** The healthy device answers a command, and whoever watches it is told. */
async function stillWell(): Promise<void> {
  const updates = collect(hub.send(testCommand({ clientId: 'healthy' })));
  healthy.succeed((await healthy.command(++beats)).id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  for (;;) {
    for (const item of await watcher.poll(100)) seen.push('type' in item ? item.type : JSON.stringify(item));
    if (seen.filter((type) => type === 'command.succeeded').length === beats) break;
    await new Promise((resolve) => setImmediate(resolve));
  }
  const steps = ['client.connected', 'command.queued', 'command.sent', 'command.delivered', 'command.succeeded'];
  expect(seen.filter((type) => !steps.includes(type))).toEqual([]);
  expect(healthy.isClosed).toBe(false);
  expect(hub.load).toEqual({ sessions: 1, outboxBytes: 0 });
}

/** How the hub ends the stream of a device: `<reason> <message>`, and whether it may come back. */
async function goodbyeTo(device: ScriptedDevice): Promise<string> {
  const goodbye = await device.closed();
  return `${goodbye?.mayReconnect ? 'come back' : 'goodbye'} ${goodbye?.reason}: ${goodbye?.message}`;
}

const refusedHello = (hello: Partial<Hello>, identity?: { tenant: string; clientId: string }) => async () => {
  const device = scriptedDevice(hub, identity);
  void device.hello({ clientId: 'bad', ...hello }).catch(() => undefined);
  return goodbyeTo(device);
};

/** A device that is welcome, and then does something. What ends its stream, or what the hub says of what it did. */
const misdeed = (act: (device: ScriptedDevice) => void | Promise<void>) => async () => {
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'bad' });
  const before = facts.length;
  await act(device);
  await clock.advance(100);
  if (device.isClosed) return goodbyeTo(device);
  const said = facts
    .slice(before)
    .flatMap((fact) => (fact.kind === 'frame-ignored' ? [`${fact.code}: ${fact.message}`] : []));
  // All that came is acknowledged all the same: a device would tell it again for ever.
  const ack = device.frames.at(-1)?.ack;
  if (ack !== device.sent) said.push(`acknowledged ${ack} of ${device.sent}`);
  device.cut();
  return said.map((line) => line.replace(uuid, '<id>')).join('; ');
};
const uuid = /[0-9a-f]{8}-[0-9a-f-]{27}/g;

const progress = (commandId: string, more: object) =>
  ({
    $case: 'progress',
    value: { commandId, progress: { fraction: undefined, note: '', item: undefined, itemNumber: 0, ...more } },
  }) as const;

/** A device that has a command and says something of it; what its caller was told in the end. */
const answering = (act: (device: ScriptedDevice, id: string) => void | Promise<void>) => async () => {
  const told: Promise<string>[] = [];
  const said = await misdeed(async (device) => {
    const command = testCommand({ clientId: 'bad' });
    told.push(collect(hub.send(command)).then((updates) => updates.map(({ state }) => state).join(' ')));
    await device.command();
    await act(device, command.id);
    device.succeed(command.id);
  })();
  return `${await told[0]}${said ? `; ${said}` : ''}`;
};

const refusedCommand = (fields: Partial<Command>) => async () => {
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'bad' });
  const error = await collect(hub.send(testCommand({ clientId: 'bad', ...fields }))).catch(toHubError);
  const commands = device.commands.length;
  device.cut();
  return 'code' in error ? `${error.code}: ${error.message}${commands > 0 ? ', and was sent' : ''}` : 'accepted';
};

const resumed = (from: (own: string) => { session: string; lastSeq: number }) => async () => {
  const first = scriptedDevice(hub);
  const { session } = await first.hello({ clientId: 'bad', bootId: 'boot' });
  first.cut();
  const second = scriptedDevice(hub);
  const welcome = await second.hello({ clientId: 'bad', bootId: 'boot', resume: from(session) });
  second.cut();
  return `resumed: ${welcome.resumed}, the same session: ${welcome.session === session}`;
};

const event = (name: string, json: string, more: { number?: number; atMs?: number } = {}) =>
  ({ $case: 'event', value: { number: 1, name, json, atMs: 0, ...more } }) as const;
const nested = '['.repeat(100_000) + ']'.repeat(100_000);
const idRule = '1 to 128 of A-Z a-z 0-9 . _ : @ -, beginning with a letter or digit';
const unknownId = (text: string) => `goodbye 4: client id ${text} is not valid: ${idRule}`;
const ok = 'queued sent delivered succeeded';

const catalogue: { name: string; run: () => Promise<string>; answer: string }[] = [];
const row = (name: string, run: () => Promise<string>, answer: string): void =>
  void catalogue.push({ name, run, answer });

row(
  'a first frame that is no hello',
  async () => {
    const device = scriptedDevice(hub);
    device.send({ $case: 'ping', value: { nonce: 1 } });
    return goodbyeTo(device);
  },
  'goodbye 4: the first frame has to be a hello, it was ping',
);
row(
  'an empty first frame',
  async () => {
    const device = scriptedDevice(hub);
    device.send(undefined);
    return goodbyeTo(device);
  },
  'goodbye 4: the first frame has to be a hello, it was empty',
);
row(
  'nothing for 10 s',
  async () => {
    const device = scriptedDevice(hub);
    await clock.advance(10_100);
    return goodbyeTo(device);
  },
  'goodbye 4: no hello within 10000 ms',
);
row(
  'a second hello',
  misdeed((device) => void device.hello().catch(() => undefined)),
  'goodbye 4: a second hello came',
);
row('an empty client id', refusedHello({ clientId: '' }), unknownId('""'));
row('a client id of 129 characters', refusedHello({ clientId: 'a'.repeat(129) }), unknownId(`"${'a'.repeat(64)}…"`));
row('a client id with a line break', refusedHello({ clientId: 'a\nb' }), unknownId('"a\\nb"'));
row('a client id with a NUL', refusedHello({ clientId: 'a\0' }), unknownId('"a\\u0000"'));
row('a client id that climbs', refusedHello({ clientId: '../etc' }), unknownId('"../etc"'));
row('a client id of braces', refusedHello({ clientId: '{}' }), unknownId('"{}"'));
row('a client id that is a star', refusedHello({ clientId: '*' }), unknownId('"*"'));
row(
  "a client id that is not the credential's",
  refusedHello({ clientId: 'pump-2' }, { tenant: 'default', clientId: 'pump-1' }),
  'goodbye 9: client id "pump-2" is not the credential\'s, "pump-1"',
);
row('another protocol', refusedHello({ protocol: 2 }), 'goodbye 4: protocol 2 is not spoken here, 1 is');
row(
  'an empty journal id',
  refusedHello({ journalId: '' }),
  'goodbye 4: journal id has 0 characters, it needs 1 to 128',
);
row(
  '65 labels',
  refusedHello({ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, 'x'])) }),
  'goodbye 4: number of labels "65" is not valid: at most 64',
);
row(
  'a label with a line break',
  refusedHello({ labels: { site: 'a\r\nevent: forged' } }),
  'goodbye 4: label "site" "a\\r\\nevent: forged" is not valid: at most 256 characters, none of them a control character',
);
row(
  'a resume from the future',
  resumed((session) => ({ session, lastSeq: 99 })),
  'resumed: false, the same session: false',
);
row(
  'a resume of no session',
  resumed(() => ({ session: 'foreign', lastSeq: 0 })),
  'resumed: false, the same session: false',
);
row(
  "a resume of another client's session",
  async () => {
    const other = scriptedDevice(hub);
    const { session } = await other.hello({ clientId: 'other', bootId: 'boot' });
    other.cut();
    return resumed(() => ({ session, lastSeq: 0 }))();
  },
  'resumed: false, the same session: false',
);

row(
  'an acknowledgement of a frame never sent',
  misdeed((device) => device.send(undefined, { ack: 7 })),
  'goodbye 4: ack 7 is of a frame that was never sent, the last one was 0',
);
row(
  'a frame with a hole before it',
  misdeed((device) => device.send({ $case: 'started', value: { commandId: 'x' } }, { seq: 5 })),
  'goodbye 4: frame 5 came after 0',
);
row(
  'a report without a number',
  misdeed((device) => device.send({ $case: 'started', value: { commandId: 'x' } }, { seq: 0 })),
  'goodbye 4: a started came without a number',
);
row(
  'bytes that are no frame',
  misdeed((device) => device.malformed('index out of range')),
  'goodbye 4: a frame could not be read: index out of range',
);

row(
  'a result of a command nobody knows',
  misdeed((device) => device.succeed('nobody-knows')),
  'not-found: a result came for command "nobody-knows", which is not known',
);
row(
  'progress of a command nobody knows',
  misdeed((device) => device.send(progress('nobody-knows', { fraction: 0.5 }))),
  'not-found: a report came for command "nobody-knows", which is not a pending one of this client',
);
row(
  "a result of another client's command",
  async () => {
    const owner = scriptedDevice(hub);
    await owner.hello({ clientId: 'owner' });
    const command = testCommand({ clientId: 'owner' });
    const updates = collect(hub.send(command));
    await owner.command();
    const said = await misdeed((device) => device.succeed(command.id))();
    owner.end(command.id, 'failed', 'dry', 'no water');
    const end = (await updates).at(-1)?.state;
    owner.cut();
    return `${said}; ended ${end}`;
  },
  "permission-denied: a result came for command <id>, which is not this client's; ended failed",
);
row(
  'a result of an older command',
  answering((device, id) => {
    device.succeed(id);
  }),
  `${ok}; idempotency-conflict: a result came for command <id>, which has ended (succeeded)`,
);
row(
  'two different results',
  answering((device, id) => device.end(id, 'failed', 'x', 'y')),
  'queued sent delivered failed; idempotency-conflict: a result came for command <id>, which has ended (failed)',
);
row(
  'a result that is no state',
  answering((device, id) =>
    device.send({
      $case: 'result',
      value: { commandId: id, state: 99 as CommandState, payload: undefined, error: undefined },
    }),
  ),
  'queued sent delivered succeeded; invalid-argument: command state 99 is not known (result of command <id>)',
);
row(
  'a result that is no end',
  answering((device, id) =>
    device.send({ $case: 'result', value: { commandId: id, state: 2, payload: undefined, error: undefined } }),
  ),
  'queued sent delivered succeeded; invalid-argument: command state "sent" is not terminal (result of command <id>)',
);
for (const fraction of [Number.NaN, -1, 1e308, Number.POSITIVE_INFINITY])
  row(
    `progress of ${fraction}`,
    answering((device, id) => device.send(progress(id, { fraction }))),
    `${ok}; invalid-argument: progress fraction ${fraction} is not from 0 to 1 (command <id>)`,
  );
row(
  'a note of 100,000 characters',
  answering((device, id) => device.send(progress(id, { note: 'x'.repeat(100_000) }))),
  'queued sent delivered succeeded; invalid-argument: progress note has 100000 characters, the limit is 4096 (command <id>)',
);
row(
  '1,000 progress reports in a second',
  async () => {
    const states = await answering(async (device, id) => {
      for (let i = 1; i <= 1000; i++) {
        device.send(progress(id, { fraction: i / 1000 }));
        await clock.advance(1);
      }
    })();
    const told = states.split(' ').filter((state) => state === 'progress').length;
    return told <= 15 ? 'fifteen at most are told' : `${told} are told`;
  },
  'fifteen at most are told',
);

row(
  "an event with one of the hub's own names",
  misdeed((device) => device.send(event('hub.forged', '{}'))),
  'invalid-argument: event 1: event type "hub.forged" is reserved: hub., client., command., task. are the hub\'s',
);
row(
  'an event with a line break in its name',
  misdeed((device) => device.send(event('a\nb', '{}'))),
  'invalid-argument: event 1: "a\\nb" is not an event type',
);
row(
  'an event of broken JSON',
  misdeed((device) => device.send(event('temperature', '{broken'))),
  "invalid-argument: event 1: json is not JSON: Expected property name or '}' in JSON at position 1 (line 1 column 2)",
);
row(
  'an event that is nested 100,000 deep',
  misdeed((device) => device.send(event('temperature', nested))),
  'invalid-argument: event 1: json is nested more than 64 levels deep',
);
row(
  'an event without a number',
  misdeed((device) => device.send(event('temperature', '{}', { number: 0 }))),
  'invalid-argument: event "temperature" has no number',
);
for (const [when, atMs] of [
  ['1970', 1000],
  ['9999', 253_402_300_799_000],
] as const)
  row(
    `an event of a clock in ${when}`,
    async () => {
      const said = await misdeed((device) => device.send(event('temperature', '{}', { atMs })))();
      const { events } = await log.read('default/client.bad', { epoch: 0, seq: 0 }, 10_000);
      const last = events.findLast(({ type }) => type === 'temperature');
      return `${said}kept at the hub's time: ${Math.abs(last!.atMs - clock.now()) < 1000}`;
    },
    "kept at the hub's time: true",
  );

row(
  'a command with an empty id',
  refusedCommand({ id: '' }),
  'invalid-argument: command id "" is not valid: 1 to 64 of A-Z a-z 0-9 _ -',
);
row(
  'a command for an empty client id',
  refusedCommand({ clientId: '' }),
  `invalid-argument: client id "" is not valid: ${idRule}`,
);
row(
  'a command for a star',
  refusedCommand({ clientId: '*' }),
  `invalid-argument: client id "*" is not valid: ${idRule}`,
);
row(
  'a timeout of 0',
  refusedCommand({ timeoutMs: 0 }),
  'invalid-argument: timeoutMs "0" is not valid: a whole number of milliseconds from 1 to 31622400000',
);
row(
  'a timeout that is no number',
  refusedCommand({ timeoutMs: Number.NaN }),
  'invalid-argument: timeoutMs "NaN" is not valid: a whole number of milliseconds from 1 to 31622400000',
);
for (const ttlMs of [0, -1, 2 ** 63])
  row(
    `a ttl of ${ttlMs}`,
    refusedCommand({ whenOffline: 'queue', ttlMs }),
    `invalid-argument: ttlMs "${ttlMs}" is not valid: a whole number of milliseconds from 1 to 31622400000`,
  );
row(
  'a payload one byte over the limit',
  refusedCommand({ payload: { type: 't', value: new Uint8Array(2 ** 20 + 1) } }),
  'invalid-argument: payload has 1048577 bytes, the limit is 1048576',
);
row(
  'a type with a line break',
  refusedCommand({ payload: { type: 'a\nb', value: new Uint8Array() } }),
  'invalid-argument: payload type "a\\nb" is not valid: at most 256 of A-Z a-z 0-9 _ . : / -',
);
row(
  'a coalesce key on a live command',
  refusedCommand({ coalesceKey: 'config' }),
  'invalid-argument: coalesceKey "config" is for queued commands, this one is live',
);
row(
  "a cancel of somebody else's command",
  async () => {
    const command = testCommand({ clientId: 'bad', whenOffline: 'queue' });
    void collect(hub.send(command)).catch(() => undefined);
    await clock.advance(10);
    const foreign = await hub.cancel('other', command.id, 'mine').catch(toHubError);
    const none = await hub.cancel('other', 'none', 'mine').catch(toHubError);
    const own = await hub.cancel('default', command.id, 'done');
    const said = (error: object): string =>
      'code' in error ? `${error.code}: ${String(Reflect.get(error, 'message'))}` : 'done';
    return `${said(foreign).replace(command.id, 'none')} = ${said(none)}; ${own.state}`;
  },
  'not-found: command "none" is not known = not-found: command "none" is not known; cancelled',
);

test.each(catalogue)('$name is answered, and nobody else notices', async ({ run, answer }) => {
  expect(await run()).toBe(answer);
  await stillWell();
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  const all = async () => {
    for (const { run } of catalogue) await run();
    facts.length = 0;
  };
  // Sessions that could be resumed, and the repeats of the mailbox, are over by then.
  const settle = () => clock.advance(60_000);
  await all();
  await settle();
  const timers = clock.pending;
  await costsNothing(all, { times: 15, settle });
  expect(clock.pending).toBe(timers);
  await stillWell();
});

test('100,000 commands to a client that is away: what does not fit is refused with a time to come back, and leaves nothing', async () => {
  const codes: Record<string, number> = {};
  const flood = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++)
      for await (const { state } of hub.send(testCommand({ clientId: 'away', whenOffline: 'queue' }))) {
        codes[state] = (codes[state] ?? 0) + 1;
        break;
      }
  };
  await flood(1000);
  const full = footprint().bytes;
  for (let i = 0; i < 99_000; i++)
    await flood(1).catch((error: unknown) => {
      const { code, retryAfterMs } = toHubError(error);
      codes[`${code} ${retryAfterMs}`] = (codes[`${code} ${retryAfterMs}`] ?? 0) + 1;
    });
  expect(codes).toEqual({ queued: 1000, 'mailbox-full 1000': 99_000 });
  facts.length = 0;
  expect((footprint().bytes - full) / 2 ** 20).toBeLessThan(6);
  await stillWell();
});
