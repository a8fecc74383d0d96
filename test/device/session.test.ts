import { describe, expect, test } from 'vitest';
import { GoodbyeReason } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { clock, dialling, facts, handleSlowly, network } from './dialling.ts';
import { echo, gate, turns } from './tools.ts';

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
