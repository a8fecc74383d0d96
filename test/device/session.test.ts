import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  connectDevice,
  type Device,
  type DeviceFact,
  type DeviceOptions,
  HubError,
  type Journal,
  memoryJournal,
} from '../../src/device/index.ts';
import { PumpServiceDefinition, TailLogResponse } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { GoodbyeReason } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { fakeNetwork } from './fake-wire.ts';
import { echo, gate, TestClock, turns } from './tools.ts';

let clock: TestClock;
let network: ReturnType<typeof fakeNetwork>;
let facts: DeviceFact[];
const devices: Device[] = [];

beforeEach(() => {
  clock = new TestClock();
  network = fakeNetwork();
  facts = [];
});
afterEach(async () => {
  for (const device of devices.splice(0)) {
    const closed = device.close({ timeoutMs: 0 });
    await clock.advance(2000);
    await closed;
  }
});

/** A device on a network and clock of its own, half of whose chances are 0.5. */
async function dialling(options: Partial<DeviceOptions> = {}): Promise<Device> {
  const device = await connectDevice({
    address: 'hub.test:1',
    clientId: 'pump-7',
    waitForWelcome: false,
    handlerGraceMs: 0,
    dial: network.dial,
    clock,
    random: () => 0.5,
    observe: (fact) => facts.push(fact),
    ...options,
  });
  devices.push(device);
  await turns();
  return device;
}

/** Serves `echo` by a handler that notes what it runs, and does not end before `open`. */
function handleSlowly(device: Device): { ran: string[]; open: () => void } {
  const ran: string[] = [];
  const { passed, open } = gate();
  device.handle(echo, async (_, { commandId }) => {
    ran.push(commandId);
    await passed;
  });
  return { ran, open };
}

describe('connecting', () => {
  test('the first frame is a hello that says who we are and what we have', async () => {
    await dialling({ labels: { site: 'north' }, agent: 'pump/1.0', window: 12 });
    const [hello] = network.newest().of('hello');
    expect(hello).toMatchObject({
      clientId: 'pump-7',
      protocol: 1,
      labels: { site: 'north' },
      agent: 'pump/1.0',
      window: 12,
      inFlight: [],
      resume: undefined,
    });
    expect(hello?.bootId).toMatch(/^[0-9a-f-]{36}$/);
    expect(hello?.journalId).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('a hub that never answers is given up after the timeout, and tried again with growing waits', async () => {
    const device = await dialling({ connectTimeoutMs: 5000 });
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 9; attempt++) {
      expect(network.streams).toHaveLength(attempt);
      await clock.advance(5000);
      expect(network.newest().isDestroyed).toBe(true);
      if (device.state.kind !== 'waiting') throw new Error(device.state.kind);
      waits.push(device.state.retryInMs);
      await clock.advance(device.state.retryInMs);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  });

  test('waits begin short again after a stable session, and not after one that was not', async () => {
    const device = await dialling();
    const retryInMs = (): number => (device.state.kind === 'waiting' ? device.state.retryInMs : Number.NaN);
    for (const waitMs of [250, 500, 1000]) {
      network.newest().welcome();
      network.newest().close();
      expect(retryInMs()).toBe(waitMs);
      await clock.advance(waitMs);
    }
    network.newest().welcome();
    await clock.advance(10_000);
    network.newest().close();
    expect(retryInMs()).toBe(250);
  });

  test('a token function is asked for each attempt; what it throws is one failed attempt', async () => {
    const answers = ['one', new Error('token server away'), 'three'];
    const device = await dialling({
      token: () => {
        const answer = answers.shift();
        if (answer instanceof Error) throw answer;
        return answer as string;
      },
    });
    expect(network.newest().token).toBe('one');
    network.newest().close(new HubError('unauthenticated', 'expired'));
    await clock.advance(250);
    expect(device.state.kind).toBe('waiting');
    expect(network.streams).toHaveLength(1);
    await clock.advance(500);
    expect(network.newest().token).toBe('three');
  });

  test('a token that no header can carry is refused without showing it', async () => {
    const device = await dialling({ token: 'sec\nret' });
    const end = await device.closed;
    expect(end).toMatchObject({ kind: 'refused', error: { code: 'unauthenticated' } });
    expect(JSON.stringify(facts)).not.toContain('ret"');
    expect(network.streams).toHaveLength(0);
  });

  test.each([
    ['permission-denied', undefined, true],
    ['permission-denied', (): string => 'fresh', true],
    ['unauthenticated', 'static', true],
    ['unauthenticated', undefined, true],
    ['unauthenticated', (): string => 'fresh', false],
    ['unimplemented', undefined, true],
    ['unavailable', undefined, false],
    ['resource-exhausted', undefined, false],
  ] as const)('a stream that ends with %s (token %s) at first: final %s', async (code, token, isFinal) => {
    const device = await dialling({ token });
    await turns();
    network.newest().close(new HubError(code, 'no'));
    await turns();
    expect(device.state.kind).toBe(isFinal ? 'closed' : 'waiting');
  });

  test('a device that was welcomed once outlives a wrong answer of a proxy', async () => {
    const device = await dialling();
    network.newest().welcome();
    network.newest().close(new HubError('unimplemented', 'no such service'));
    expect(device.state.kind).toBe('waiting');
  });

  test.each([
    ['address', { address: '' }],
    ['client id', { clientId: '../x' }],
    ['concurrency', { concurrency: 0 }],
    ['maxBufferedFrames', { maxBufferedFrames: Number.NaN }],
    ['backoff', { backoff: { minMs: 10, maxMs: 5 } }],
    ['label', { labels: { a: 'b\nc' } }],
  ])('a wrong %s is told at once', async (name, options) => {
    await expect(dialling(options)).rejects.toThrow(
      expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining(name) }),
    );
  });

  test('waiting for the first welcome ends with its signal', async () => {
    const controller = new AbortController();
    const connecting = dialling({ waitForWelcome: true, signal: controller.signal });
    await turns();
    controller.abort();
    await expect(connecting).rejects.toThrow(expect.objectContaining({ code: 'unavailable' }));
  });
});

describe('goodbye and drain', () => {
  test('one that is final closes the device with its reason', async () => {
    const device = await dialling();
    network.newest().welcome();
    network.newest().goodbye({ mayReconnect: false, message: 'sold' });
    expect(await device.closed).toMatchObject({
      kind: 'refused',
      error: { code: 'unavailable', message: expect.stringContaining('sold') },
    });
    expect(network.newest().isDestroyed).toBe(true);
    await clock.advance(100_000);
    expect(network.streams).toHaveLength(1);
    expect(clock.size).toBe(0);
  });

  test.each([
    ['OVERLOADED', { retryAfterMs: 8000 }, 8250],
    ['DRAINING', {}, 250],
    ['TAKEN_OVER', {}, 15_250],
    ['TAKEN_OVER', { retryAfterMs: 3000 }, 3250],
    ['SLOW_CONSUMER', {}, 250],
    ['LIVENESS', {}, 250],
  ] as const)('%s %o: comes back after %i ms', async (reason, hint, waitMs) => {
    const device = await dialling();
    network.newest().welcome();
    network.newest().goodbye({ reason: GoodbyeReason[`GOODBYE_REASON_${reason}`], ...hint });
    expect(device.state).toMatchObject({ kind: 'waiting', retryInMs: waitMs });
  });

  test('an expired static credential is final, one that can be had anew is not', async () => {
    const reason = GoodbyeReason.GOODBYE_REASON_UNAUTHENTICATED;
    const fixed = await dialling({ token: 'static' });
    network.newest().welcome();
    network.newest().goodbye({ reason });
    expect(fixed.state.kind).toBe('closed');
    const fresh = await dialling({ token: () => 'fresh' });
    network.newest().welcome();
    network.newest().goodbye({ reason });
    expect(fresh.state.kind).toBe('waiting');
  });

  test('a credential that is not for this client id is final, whoever makes it', async () => {
    const device = await dialling({ token: () => 'fresh' });
    const reason = GoodbyeReason.GOODBYE_REASON_PERMISSION_DENIED;
    network.newest().goodbye({ reason, mayReconnect: false, message: 'client id "b" is not the credential\'s, "a"' });
    expect(await device.closed).toMatchObject({ kind: 'refused', error: { code: 'permission-denied' } });
    await clock.advance(100_000);
    expect(network.streams).toHaveLength(1);
  });

  test('a hello that broke the rules is refused for good', async () => {
    const connecting = dialling({ waitForWelcome: true });
    await turns();
    network.newest().goodbye({ reason: GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR, message: 'protocol 1' });
    await expect(connecting).rejects.toThrow(/protocol 1/);
  });

  test('a drain is followed after its time and part of its spread', async () => {
    await dialling();
    const first = network.newest();
    first.welcome();
    first.tell({ $case: 'drain', value: { reconnectAfterMs: 1000, spreadMs: 4000 } });
    await clock.advance(2999);
    expect(network.streams).toHaveLength(1);
    await clock.advance(1);
    await clock.advance(0);
    expect(network.streams).toHaveLength(2);
    expect(network.newest().of('hello')[0]).toMatchObject({ resume: { session: 's1', lastSeq: 0 } });
  });

  test('a device that is asked to leave tells a draining hub the results of what runs first', async () => {
    const device = await dialling();
    const open = gate();
    device.handle(echo, () => open.passed);
    const first = network.newest();
    first.welcome();
    first.command({ id: 'c1' });
    first.tell({ $case: 'drain', value: { reconnectAfterMs: 1000, spreadMs: 0 } });
    await clock.advance(5000);
    expect(network.streams).toHaveLength(1);
    open.open();
    await turns();
    expect(first.of('result')).toMatchObject([{ commandId: 'c1' }]);
    await clock.advance(500);
    expect(network.streams).toHaveLength(1);
    first.tell(undefined, { ack: first.frames.at(-1)?.seq ?? 0 });
    await clock.advance(500);
    expect(network.streams).toHaveLength(2);
  });

  test('a drain after a stable session begins with short waits again', async () => {
    const device = await dialling();
    for (let attempt = 0; attempt < 4; attempt++) {
      network.newest().close();
      await clock.advance(5000);
    }
    network.newest().welcome();
    await clock.advance(20_000);
    network.newest().tell({ $case: 'drain', value: { reconnectAfterMs: 0, spreadMs: 0 } });
    await clock.advance(0);
    network.newest().close();
    expect(device.state).toMatchObject({ kind: 'waiting', retryInMs: 250 });
  });

  test('a hub that goes before the drain is over is given its time', async () => {
    const device = await dialling();
    network.newest().welcome();
    network.newest().tell({ $case: 'drain', value: { reconnectAfterMs: 6000, spreadMs: 0 } });
    await clock.advance(1000);
    network.newest().close();
    expect(device.state).toMatchObject({ kind: 'waiting', retryInMs: 5000 });
  });
});

describe('liveness', () => {
  test('a hub that says nothing for too long is taken for dead', async () => {
    const device = await dialling();
    network.newest().welcome({ heartbeatMs: 10_000, livenessMs: 5000 });
    await clock.advance(9000);
    network.newest().tell({ $case: 'ping', value: { nonce: 5 } });
    expect(network.newest().of('pong')).toEqual([{ nonce: 5 }]);
    await clock.advance(14_999);
    expect(device.state.kind).toBe('connected');
    await clock.advance(1);
    expect(device.state).toMatchObject({ kind: 'waiting', reason: expect.stringContaining('15000 ms') });
    expect(network.newest().isDestroyed).toBe(true);
  });

  test('a hub that does not ping is not watched', async () => {
    const device = await dialling();
    network.newest().welcome({ heartbeatMs: 0, livenessMs: 5000 });
    await clock.advance(1_000_000);
    expect(device.state.kind).toBe('connected');
  });
});

describe('a hub that breaks the protocol', () => {
  test.each([
    ['bytes that are no frame', (s: ReturnType<typeof network.newest>) => s.bytes(Buffer.from([0x0b, 0xff]))],
    ['a second welcome', (s) => s.welcome()],
    ['a hole in its numbers', (s) => s.tell({ $case: 'ping', value: { nonce: 1 } }, { seq: 7 })],
    ['an acknowledgement of what was never sent', (s) => s.tell(undefined, { ack: 9 })],
    ['a command without an id', (s) => s.command({ id: '' })],
  ] as [string, (s: ReturnType<typeof network.newest>) => void][])(
    '%s ends the session, not the device',
    async (_, act) => {
      const device = await dialling();
      network.newest().welcome();
      act(network.newest());
      expect(device.state.kind).toBe('waiting');
      expect(network.newest().of('goodbye')).toMatchObject([{ reason: GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR }]);
      await clock.advance(250);
      expect(network.newest().of('hello')[0]?.resume).toBeUndefined();
    },
  );

  test('a first frame that is not a welcome is not taken', async () => {
    const device = await dialling();
    network.newest().tell({ $case: 'ping', value: { nonce: 1 } });
    expect(device.state.kind).toBe('waiting');
  });

  test('resuming what was not asked for is not taken', async () => {
    const device = await dialling();
    network.newest().welcome({ resumed: true });
    expect(device.state.kind).toBe('waiting');
  });
});

describe('resume', () => {
  test('what the hub has not received is sent again with its number, what it has is not', async () => {
    const device = await dialling();
    const first = network.newest();
    first.welcome();
    for (const name of ['a', 'b', 'c']) void device.emit(name);
    expect(first.numbered).toEqual(['1 event', '2 event', '3 event']);
    first.close();
    void device.emit('d');
    await clock.advance(250);
    const second = network.newest();
    second.welcome({ resumed: true, lastSeq: 2 });
    expect(second.numbered).toEqual(['3 event', '4 event']);
    expect(second.of('event').map(({ name }) => name)).toEqual(['c', 'd']);
    second.tell(undefined, { ack: 4 });
  });

  test('in a new session results and events come again under new numbers; what only told the way does not', async () => {
    const device = await dialling();
    const open = gate();
    device.handle(echo, (_, { commandId, progress }) => {
      if (commandId === 'quick') return undefined;
      progress({ fraction: 0.5 });
      return open.passed;
    });
    const first = network.newest();
    first.welcome();
    first.command({ id: 'slow' });
    first.command({ id: 'quick' });
    void device.emit('a');
    await turns();
    expect(first.numbered).toEqual(['1 progress', '2 result', '3 event']);
    first.close();
    await clock.advance(250);
    const second = network.newest();
    expect(second.of('hello')[0]).toMatchObject({ resume: { session: 's1', lastSeq: 2 } });
    expect(second.of('hello')[0]?.inFlight.toSorted()).toEqual(['quick', 'slow']);
    second.welcome({ session: 's2' });
    expect(second.numbered).toEqual(['1 result', '2 event']);
    expect(second.of('event')[0]?.number).toBe(1);
    open.open();
    await turns();
    expect(second.numbered).toEqual(['1 result', '2 event', '3 result']);
  });

  test('frames of the hub that come again are acknowledged again and do nothing', async () => {
    const device = await dialling();
    let runs = 0;
    device.handle(echo, () => void runs++);
    const first = network.newest();
    first.welcome();
    first.command({ id: 'c1' });
    first.close();
    await clock.advance(250);
    const second = network.newest();
    second.welcome({ resumed: true, lastSeq: 1 });
    second.tell(first.frames[0] && { $case: 'ping', value: { nonce: 1 } }, { seq: 1 });
    await turns();
    expect(runs).toBe(1);
    expect(second.frames.at(-1)).toMatchObject({ seq: 0, ack: 1, body: undefined });
  });

  test('a new session drops what was not begun: the hub sends again what it still wants', async () => {
    const device = await dialling({ concurrency: 1 });
    const { ran, open } = handleSlowly(device);
    const first = network.newest();
    first.welcome();
    for (const id of ['a', 'b', 'c']) first.command({ id });
    await turns();
    first.close();
    await clock.advance(250);
    const second = network.newest();
    expect(second.of('hello')[0]?.inFlight).toEqual(['a']);
    second.welcome({ session: 's2' });
    second.command({ id: 'c' });
    open();
    await turns();
    expect(ran).toEqual(['a', 'c']);
  });

  test('a command that came twice over two sessions runs once', async () => {
    const device = await dialling();
    let runs = 0;
    device.handle(echo, () => ++runs, { result: { ...echo, encode: (n) => Uint8Array.of(n), decode: () => 0 } });
    network.newest().welcome();
    network.newest().command({ id: 'c1' });
    network.newest().close();
    await clock.advance(250);
    network.newest().welcome({ session: 's2' });
    network.newest().command({ id: 'c1' });
    await turns();
    expect(network.newest().of('result')).toHaveLength(1);
    expect(runs).toBe(1);
  });

  test('a hub that resumes where we have nothing any more gets a new session', async () => {
    const device = await dialling();
    network.newest().welcome();
    void device.emit('a');
    network.newest().tell(undefined, { ack: 1 });
    network.newest().close();
    await clock.advance(250);
    network.newest().welcome({ resumed: true, lastSeq: 0 });
    expect(device.state).toMatchObject({ kind: 'waiting', reason: expect.stringContaining('resumes after frame 0') });
  });
});

describe('time limits', () => {
  test('a command that may not start any more is expired and never run', async () => {
    const device = await dialling({ concurrency: 1 });
    const { ran, open } = handleSlowly(device);
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    stream.command({ id: 'b', startWithinMs: 1000 });
    await clock.advance(1000);
    expect(stream.of('result')).toMatchObject([{ commandId: 'b', state: CommandState.COMMAND_STATE_EXPIRED }]);
    open();
    await turns();
    expect(ran).toEqual(['a']);
  });

  test('a command that does not finish in time hears of it, and fails as timed out', async () => {
    const device = await dialling();
    const reasons: unknown[] = [];
    device.handle(echo, (_, { signal, deadlineMs }) => {
      expect(deadlineMs).toBe(clock.now() + 500);
      return new Promise<void>((resolve) =>
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason.code);
          resolve();
        }),
      );
    });
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a', finishWithinMs: 500 });
    await clock.advance(499);
    expect(stream.of('result')).toEqual([]);
    await clock.advance(1);
    expect(reasons).toEqual(['deadline-exceeded']);
    expect(stream.of('result')).toMatchObject([
      { state: CommandState.COMMAND_STATE_FAILED, error: { code: 'timed-out' } },
    ]);
  });
});

describe('progress', () => {
  test('a thousand reports are a few frames: the newest wins', async () => {
    const device = await dialling();
    const open = gate();
    device.handle(echo, async (_, { progress }) => {
      for (let i = 0; i < 1000; i++) progress({ fraction: i / 1000 });
      await open.passed;
      progress({ fraction: 1, note: 'done' });
    });
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    await clock.advance(1000);
    expect(stream.of('progress').map(({ progress }) => progress?.fraction)).toEqual([0, 0.999]);
    open.open();
    await turns();
    expect(stream.of('progress').map(({ progress }) => progress?.note)).toEqual(['', '', 'done']);
    expect(stream.numbered.at(-1)).toMatch(/result/);
  });

  test.each([Number.NaN, -1, 1e308, '0.5'])('a fraction of %s is refused where it is said', async (fraction) => {
    const device = await dialling();
    device.handle(echo, (_, { progress }) => progress({ fraction: fraction as number }));
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    await turns();
    expect(stream.of('result')).toMatchObject([{ error: { code: 'invalid-argument' } }]);
  });
});

describe('buffers', () => {
  test('events are kept until the hub has them; beyond the limit they are refused', async () => {
    const device = await dialling({ maxBufferedFrames: 3 });
    const stream = network.newest();
    stream.welcome();
    const emitted = ['a', 'b', 'c'].map((name) => device.emit(name));
    await expect(device.emit('d')).rejects.toMatchObject({ code: 'resource-exhausted' });
    expect(facts.filter(({ kind }) => kind === 'event-dropped')).toHaveLength(1);
    stream.tell(undefined, { ack: 3 });
    await Promise.all(emitted);
    void device.emit('e');
    expect(stream.of('event').map(({ name, number }) => `${number} ${name}`)).toEqual(['1 a', '2 b', '3 c', '4 e']);
  });

  test('the limit counts bytes too', async () => {
    const device = await dialling({ maxBufferedBytes: 10_000 });
    network.newest().welcome();
    void device.emit('a', 'x'.repeat(12_000));
    await expect(device.emit('b')).rejects.toMatchObject({ code: 'resource-exhausted' });
  });

  test('nothing is written while the wire is full', async () => {
    const device = await dialling();
    const stream = network.newest();
    stream.welcome();
    stream.isOpen = false;
    for (const name of ['a', 'b', 'c']) void device.emit(name);
    stream.tell({ $case: 'ping', value: { nonce: 1 } });
    stream.tell({ $case: 'ping', value: { nonce: 2 } });
    expect(stream.numbered).toEqual(['1 event']);
    expect(stream.of('pong')).toEqual([]);
    stream.writable();
    expect(stream.numbered).toEqual(['1 event', '2 event', '3 event']);
    expect(stream.of('pong')).toEqual([{ nonce: 2 }]);
  });

  test('a full buffer keeps further commands waiting until there is room', async () => {
    const device = await dialling({ maxBufferedFrames: 2 });
    const ran: string[] = [];
    device.handle(echo, (_, { commandId }) => void ran.push(commandId));
    const stream = network.newest();
    stream.welcome();
    for (const id of ['a', 'b', 'c', 'd']) stream.command({ id });
    expect(ran).toEqual(['a', 'b']);
    stream.tell(undefined, { ack: 1 });
    expect(ran).toEqual(['a', 'b', 'c']);
  });

  test.each([['hub.x'], ['client.x'], ['command.x'], [''], ['a b'], ['x'.repeat(129)], ['a\r\nb']])(
    'an event named %o is refused at once',
    async (name) => {
      const device = await dialling();
      expect(() => device.emit(name)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    },
  );

  test('data that is not JSON is refused at once, and no number is lost by it', async () => {
    const device = await dialling();
    network.newest().welcome();
    expect(() => device.emit('a', 1n)).toThrow(/"a" is not JSON/);
    const { emit } = device;
    void emit('b', undefined);
    expect(network.newest().of('event')).toMatchObject([{ number: 1, name: 'b', json: 'null' }]);
  });
});

describe('a journal that takes its time', () => {
  /** A journal whose begins wait for the test. */
  function slowJournal(): { journal: Journal; begins: { id: string; recorded(): void; failed(error: Error): void }[] } {
    const journal = memoryJournal();
    const begins: { id: string; recorded(): void; failed(error: Error): void }[] = [];
    const begin = (id: string, options: { idempotent: boolean }): Promise<void> => {
      void journal.begin(id, options);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      begins.push({ id, recorded: resolve, failed: reject });
      return promise;
    };
    return { begins, journal: { ...journal, begin } };
  }

  test('is waited for before the handler runs', async () => {
    const { journal, begins } = slowJournal();
    const device = await dialling({ journal });
    const ran: string[] = [];
    device.handle(echo, (_, { commandId }) => void ran.push(commandId));
    const stream = network.newest();
    stream.welcome();
    for (const id of ['a', 'b']) stream.command({ id });
    await turns();
    expect(ran).toEqual([]);
    expect(stream.frames.at(-1)).toMatchObject({ ack: 2, body: undefined });
    for (const begun of begins) begun.recorded();
    await turns();
    expect(ran).toEqual(['a', 'b']);
  });

  test('that fails rejects the command, which is not run', async () => {
    const { journal, begins } = slowJournal();
    const device = await dialling({ journal });
    let runs = 0;
    device.handle(echo, () => void runs++);
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    begins[0]?.failed(new Error('disk full'));
    await turns();
    expect(stream.of('result')).toMatchObject([
      {
        state: CommandState.COMMAND_STATE_REJECTED,
        error: { code: 'journal-failed', message: expect.stringContaining('disk full') },
      },
    ]);
    expect(runs).toBe(0);
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'journal-failed', commandId: 'a' }));
  });

  test('a cancel meanwhile means that the command is not run', async () => {
    const { journal, begins } = slowJournal();
    const device = await dialling({ journal });
    let runs = 0;
    device.handle(echo, () => void runs++);
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    stream.cancel('a');
    begins[0]?.recorded();
    await turns();
    expect(stream.of('result')).toMatchObject([{ state: CommandState.COMMAND_STATE_CANCELLED }]);
    expect(runs).toBe(0);
  });

  test('what it holds from before is told first: results again, and what a crash cut off', async () => {
    const journal = memoryJournal();
    void journal.begin('cut', { idempotent: false });
    void journal.begin('repeatable', { idempotent: true });
    const device = await dialling({ journal });
    let runs = 0;
    device.handle(echo, () => void runs++);
    const stream = network.newest();
    expect(stream.of('hello')[0]?.inFlight).toEqual(['cut']);
    stream.welcome();
    expect(stream.of('result')).toMatchObject([
      { commandId: 'cut', state: CommandState.COMMAND_STATE_UNKNOWN, error: { code: 'interrupted' } },
    ]);
    stream.command({ id: 'cut' });
    stream.command({ id: 'repeatable', idempotent: true });
    await turns();
    expect(runs).toBe(1);
  });
});

describe('items', () => {
  const service = { ...PumpServiceDefinition };
  const tail = { type: 'signalbox.example.v1.PumpService/TailLog', value: new Uint8Array() };

  test('are made no faster than the hub takes them, and none is left out', async () => {
    const device = await dialling({ maxBufferedFrames: 4 });
    let made = 0;
    device.implement(service, {
      start: () => ({}),
      stop: () => ({}),
      configUpdate: () => ({}),
      async *tailLog() {
        while (made < 10) yield { number: ++made };
      },
    });
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a', payload: tail });
    await turns();
    expect(made).toBe(4);
    for (let acked = 1; stream.of('result').length === 0; acked++) {
      stream.tell(undefined, { ack: acked });
      await turns();
      expect(made - acked).toBeLessThanOrEqual(4);
    }
    const numbers = stream.of('progress').map(({ progress }) => TailLogResponse.decode(progress!.item!.value).number);
    expect(numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('a handler that waits for room is woken by a cancel', async () => {
    const device = await dialling({ maxBufferedFrames: 1 });
    let isTidy = false;
    device.implement(service, {
      start: () => ({}),
      stop: () => ({}),
      configUpdate: () => ({}),
      async *tailLog() {
        try {
          for (;;) yield {};
        } finally {
          isTidy = true;
        }
      },
    });
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a', payload: tail });
    await turns();
    stream.cancel('a');
    await turns();
    expect(isTidy).toBe(true);
    expect(stream.of('result')).toMatchObject([{ state: CommandState.COMMAND_STATE_CANCELLED }]);
  });
});

describe('close', () => {
  test('lets running handlers end, waits for the acknowledgement, and says goodbye', async () => {
    const device = await dialling();
    const open = gate();
    device.handle(echo, () => open.passed);
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    await turns();
    const closed = device.close();
    expect(device.close()).toBe(closed);
    stream.command({ id: 'b' });
    await turns();
    open.open();
    await turns();
    expect(stream.of('result')).toMatchObject([{ commandId: 'a' }]);
    expect(stream.of('goodbye')).toEqual([]);
    stream.tell(undefined, { ack: 2 });
    await turns();
    expect(stream.of('goodbye')).toMatchObject([{ reason: GoodbyeReason.GOODBYE_REASON_DISCONNECTED }]);
    expect(stream.isEnded).toBe(true);
    stream.close();
    await closed;
    expect(await device.closed).toEqual({ kind: 'closed' });
    // The second command was neither run nor acknowledged.
    expect(Math.max(...stream.frames.map(({ ack }) => ack))).toBe(1);
    expect(clock.size).toBe(0);
  });

  test('does not wait for ever: handlers are aborted, and events that were not taken are told', async () => {
    const device = await dialling();
    let reason: unknown;
    device.handle(echo, (_, { signal }) => {
      signal.addEventListener('abort', () => {
        reason = signal.reason.code;
      });
      return new Promise(() => undefined);
    });
    const stream = network.newest();
    stream.welcome();
    stream.command({ id: 'a' });
    const emitted = device.emit('x');
    const closed = device.close({ timeoutMs: 3000 });
    await clock.advance(3000);
    await clock.advance(1000);
    await closed;
    expect(reason).toBe('unavailable');
    await expect(emitted).rejects.toMatchObject({ code: 'unavailable' });
    await expect(device.emit('y')).rejects.toMatchObject({ code: 'unavailable' });
    expect(clock.size).toBe(0);
  });

  test('while the hub is away it waits for acknowledgements only for a while, and says what it leaves behind', async () => {
    const device = await dialling({ backoff: { minMs: 60_000, maxMs: 60_000 } });
    network.newest().welcome();
    void device.emit('x'); // sent, and never acknowledged
    await turns();
    network.newest().close();
    let isOver = false;
    const closed = device.close().then(() => {
      isOver = true;
    });
    await clock.advance(1999);
    expect(isOver).toBe(false);
    await clock.advance(1);
    await closed;
    expect(facts).toContainEqual({ kind: 'closed-early', running: 0, unacknowledged: 1 });
    expect(clock.size).toBe(0);
  });

  test('a device that is not connected and owes nothing closes at once', async () => {
    const device = await dialling();
    network.newest().close();
    await device.close();
    expect(device.state.kind).toBe('closed');
    expect(clock.size).toBe(0);
  });
});

test('a listener or observer that throws harms nobody', async () => {
  const device = await dialling({
    observe: (fact) => {
      facts.push(fact);
      if (fact.kind === 'state-changed') throw new Error('observer');
    },
  });
  device.onStateChange(() => {
    throw new Error('listener');
  });
  network.newest().welcome();
  expect(device.state.kind).toBe('connected');
  expect(facts.filter(({ kind }) => kind === 'listener-failed')).toHaveLength(1);
});
