import { describe, expect, test } from 'vitest';
import { HubError } from '../../src/device/index.ts';
import { GoodbyeReason } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { clock, dialling, facts, network } from './dialling.ts';
import { echo, gate, turns } from './tools.ts';

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

  test('a stream that breaks as the first frame of its new session goes out is followed by one that resumes that session', async () => {
    const device = await dialling();
    network.newest().welcome({ session: 'first' });
    void device.emit('temperature', { celsius: 20 });
    await turns();
    network.newest().close();
    await clock.advance(250);
    const second = network.newest();
    second.onSend = ({ seq }) => {
      if (seq > 0) second.close();
    };
    second.welcome({ session: 'second', resumed: false });
    expect(second.numbered).toEqual(['1 event']);
    await clock.advance(500);
    expect(network.newest().of('hello')[0]?.resume).toEqual({ session: 'second', lastSeq: 0 });
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
