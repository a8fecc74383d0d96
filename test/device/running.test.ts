import { describe, expect, test } from 'vitest';
import { type Journal, memoryJournal } from '../../src/device/index.ts';
import { PumpServiceDefinition, TailLogResponse } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { clock, dialling, facts, handleSlowly, network } from './dialling.ts';
import { echo, gate, turns } from './tools.ts';

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
