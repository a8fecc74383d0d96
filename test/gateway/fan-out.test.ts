import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { cursorChannels, decodeCursor } from '../../src/events/cursor.ts';
import type { EventLog } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { type Clock, systemClock } from '../../src/flow/clock.ts';
import { Audience } from '../../src/gateway/sse/audience.ts';
import { FanOut } from '../../src/gateway/sse/fan-out.ts';
import { encodeFrame } from '../../src/gateway/sse/frame.ts';
import type { Sink } from '../../src/gateway/sse/sink.ts';
import { Watcher } from '../../src/gateway/sse/watcher.ts';
import { virtualClock } from '../../src/testing/index.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The same numbers for the same seed. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

/** No time passes: every round is one slice. */
const wholeRounds: Clock = { ...systemClock, monotonic: () => 0 };

/** Every step takes long: each is a slice of its own, and much happens in between. */
function tinySlices(): Clock {
  let ms = 0;
  return {
    now: () => 0,
    monotonic: () => {
      ms += 5;
      return ms;
    },
    after(_, run) {
      const next = setImmediate(run);
      return () => clearImmediate(next);
    },
  };
}

/** A log that often has to read from a disk: answers come late, and may be out of date when they come. */
function slowLog(log: EventLog, random: () => number): EventLog {
  return {
    ...log,
    epoch: log.epoch,
    append: (channel, event) => log.append(channel, event),
    end: (channel) => log.end(channel),
    watch: (channel, wake) => log.watch(channel, wake),
    lastFrom: (channel, producer) => log.lastFrom(channel, producer),
    close: () => log.close(),
    read(channel, after, limit) {
      const short = 1 + Math.floor(random() * limit);
      if (random() < 0.4) return log.read(channel, after, short);
      const early = random() < 0.5 ? log.read(channel, after, short) : undefined;
      return (async () => {
        for (let turns = random() * 5; turns > 0; turns--) await turn();
        return early ?? log.read(channel, after, short);
      })();
    },
  };
}

/** A browser that parks, leaves and comes back as the dice say. */
class Visitor {
  readonly seen = new Map<string, number[]>();
  readonly gaps: string[] = [];
  readonly #fanOut: FanOut;
  readonly #keys: readonly string[];
  readonly #random: () => number;
  #watcher: Watcher | undefined;
  #cursor: string | undefined;
  #waiting = 0;

  constructor(fanOut: FanOut, keys: readonly string[], random: () => number) {
    this.#fanOut = fanOut;
    this.#keys = cursorChannels(keys);
    this.#random = random;
  }

  come(): void {
    if (this.#watcher !== undefined) return;
    const audience = new Audience('', this.#keys);
    const watcher = new Watcher({ subject: '', expiresAtMs: undefined, idleLimitMs: 0, isLast: undefined, audience });
    const known = this.#cursor === undefined ? undefined : decodeCursor(this.#cursor, this.#keys);
    watcher.places = this.#keys.map((key) => this.#fanOut.add(watcher, key));
    for (const [i, place] of watcher.places.entries()) if (known?.kind === 'positions') place.at = known.positions[i]!;
    const sink: Sink = {
      write: ({ bytes }) => {
        if (this.#watcher === watcher) this.#take(bytes.toString());
        this.#waiting = this.#random() < 0.2 ? 100 : 0;
        return this.#waiting === 0;
      },
      waiting: 0,
      end: () => undefined,
      destroy: () => undefined,
    };
    Object.defineProperty(sink, 'waiting', { get: () => this.#waiting });
    watcher.open(sink, 0);
    this.#watcher = watcher;
    this.#fanOut.start(watcher);
  }

  drain(): void {
    this.#waiting = 0;
    if (this.#watcher !== undefined) this.#fanOut.unpark(this.#watcher);
  }

  leave(): void {
    if (this.#watcher === undefined) return;
    this.#fanOut.remove(this.#watcher.places);
    this.#watcher = undefined;
  }

  #take(text: string): void {
    for (const block of text.split('\n\n').slice(0, -1)) {
      // The line is cut here: the rest of what was written never arrives.
      if (this.#random() < 0.02) {
        this.leave();
        return;
      }
      const [, id, name, data] = /^id: (\S+)\nevent: (\S+)\ndata: (.*)$/.exec(block)!;
      this.#cursor = id;
      const { channel, seq } = JSON.parse(data!);
      if (name!.startsWith('hub.')) this.gaps.push(name!);
      else this.seen.set(channel, [...(this.seen.get(channel) ?? []), seq]);
    }
  }
}

test.each(Array.from({ length: 25 }, (_, i) => i + 1))(
  'with slow disks, full wires and cut lines everybody still sees every event once, in order (seed %i)',
  async (seed) => {
    const random = dice(seed);
    const memory = memoryEventLog({ ringEvents: 100_000, ringBytes: 2 ** 30 });
    const log = slowLog(memory, random);
    const failures: unknown[] = [];
    const fanOut = new FanOut({
      log,
      clock: seed % 2 === 0 ? wholeRounds : tinySlices(),
      bufferBytes: 10,
      onFinished: () => undefined,
      onReadFailed: (_, error) => failures.push(error),
    });
    const names = ['a', 'b', 'c'];
    const all = names.map((name) => `default/${name}`);
    const visitors = Array.from(
      { length: 12 },
      (_, i) => new Visitor(fanOut, i % 3 === 0 ? all : [all[i % 3]!], random),
    );
    const counts = new Map(names.map((name) => [name, 0]));
    for (let step = 0; step < 300; step++) {
      const name = names[Math.floor(random() * 3)]!;
      for (let burst = random() * 4; burst > 0; burst--) {
        counts.set(name, counts.get(name)! + 1);
        // Some are so large that what is read at once does not go out at once.
        const data = seed % 5 === 0 && random() < 0.3 ? `${step}`.padEnd(30_000) : step;
        void memory.append(`default/${name}`, { type: 'tick', atMs: 0, data, durable: false });
      }
      for (const visitor of visitors) {
        const roll = random();
        if (roll < 0.03) visitor.leave();
        else if (roll < 0.3) visitor.come();
        else if (roll < 0.6) visitor.drain();
      }
      if (random() < 0.5) await turn();
    }
    const isDone = (visitor: Visitor, i: number) =>
      names.every(
        (name, n) => (i % 3 !== 0 && n !== i % 3) || (visitor.seen.get(name)?.length ?? 0) >= counts.get(name)!,
      );
    for (let turns = 0; turns < 20_000 && !visitors.every(isDone); turns++) {
      for (const visitor of visitors) {
        visitor.come();
        visitor.drain();
      }
      await turn();
    }
    for (const [i, visitor] of visitors.entries()) {
      for (const [n, name] of names.entries()) {
        if (i % 3 !== 0 && n !== i % 3) continue;
        expect(visitor.seen.get(name)).toEqual(Array.from({ length: counts.get(name)! }, (_, k) => k + 1));
      }
      expect(visitor.gaps).toEqual([]);
      visitor.leave();
    }
    expect(failures).toEqual([]);
    expect(fanOut.size).toBe(0);
    await memory.close();
  },
);

test('a wire that takes nothing gets nothing more once its buffer is full, and all of it when it takes again', async () => {
  const memory = memoryEventLog({ ringEvents: 1000 });
  const bufferBytes = 1000;
  const fanOut = new FanOut({
    log: memory,
    clock: wholeRounds,
    bufferBytes,
    onFinished: () => undefined,
    onReadFailed: () => undefined,
  });
  const audience = new Audience('', ['default/a']);
  const watcher = new Watcher({ subject: '', expiresAtMs: undefined, idleLimitMs: 0, isLast: undefined, audience });
  watcher.places = [fanOut.add(watcher, 'default/a')];
  const wire = { waiting: 0, isFull: true, events: 0, largest: 0 };
  watcher.open(
    {
      write({ bytes }) {
        wire.events += bytes.toString().split('\n\n').length - 1;
        wire.largest = Math.max(wire.largest, bytes.length);
        if (wire.isFull) wire.waiting += bytes.length;
        return !wire.isFull;
      },
      get waiting() {
        return wire.waiting;
      },
      end: () => undefined,
      destroy: () => undefined,
    },
    0,
  );
  fanOut.start(watcher);
  for (let i = 0; i < 200; i++) {
    void memory.append('default/a', { type: 'tick', atMs: 0, data: i, durable: false });
    for (let turns = 0; turns < 3; turns++) await turn();
  }
  expect(wire.waiting).toBeGreaterThan(bufferBytes);
  expect(wire.waiting).toBeLessThanOrEqual(bufferBytes + wire.largest);
  expect(wire.events).toBeLessThan(20);
  wire.isFull = false;
  wire.waiting = 0;
  fanOut.unpark(watcher);
  await expect.poll(() => wire.events).toBe(200);
  fanOut.remove(watcher.places);
  await memory.close();
});

test('what is read from a disk and does not go out at once is not read again', async () => {
  const memory = memoryEventLog({ ringEvents: 1000, ringBytes: 2 ** 30 });
  const pad = 'x'.repeat(4000);
  for (let i = 0; i < 256; i++) void memory.append('default/a', { type: 'tick', atMs: 0, data: pad, durable: false });
  let reads = 0;
  const log: EventLog = slowLog(memory, () => 0.9);
  log.read = async (...place) => {
    reads++;
    return memory.read(...place);
  };
  const fanOut = new FanOut({
    log,
    clock: wholeRounds,
    bufferBytes: 10,
    onFinished: () => undefined,
    onReadFailed: () => undefined,
  });
  const visitor = new Visitor(fanOut, ['default/a'], () => 0.9);
  visitor.come();
  await expect.poll(() => visitor.seen.get('a')?.length).toBe(256);
  expect(reads).toBeLessThanOrEqual(2); // the second one finds that there is no more
  visitor.leave();
  await memory.close();
});

test('a log that cannot be read ends the streams that need it, and says so', async () => {
  const memory = memoryEventLog();
  const failures: string[] = [];
  const log: EventLog = slowLog(memory, () => 0.9);
  log.read = async () => {
    throw new Error('disk gone');
  };
  const fanOut = new FanOut({
    log,
    clock: systemClock,
    bufferBytes: 10,
    onFinished: () => undefined,
    onReadFailed: (channel, error, watchers) => failures.push(`${channel}: ${error.message} (${watchers.length})`),
  });
  new Visitor(fanOut, ['default/a'], () => 0.5).come();
  await expect.poll(() => failures).toEqual(['default/a: disk gone (1)']);
  await memory.close();
});

test('a log that cannot be read for a while costs its watchers nothing but time', async () => {
  const clock = virtualClock();
  const memory = memoryEventLog();
  const failures: [string, number][] = [];
  let isAway = true;
  const log: EventLog = slowLog(memory, () => 0.9);
  log.read = async (channel, after, limit) => {
    if (isAway) throw new HubError('unavailable', 'no Redis', { retryAfterMs: 1000 });
    return memory.read(channel, after, limit);
  };
  const fanOut = new FanOut({
    log,
    clock,
    bufferBytes: 10,
    onFinished: () => undefined,
    onReadFailed: (_, error, watchers) => failures.push([error.message, watchers.length]),
  });
  const visitors = [1, 2, 3].map(() => new Visitor(fanOut, ['default/a'], () => 0.5));
  for (const visitor of visitors) visitor.come();
  void memory.append('default/a', { type: 'tick', atMs: 0, data: 1, durable: false });
  await expect.poll(() => failures).toEqual([['no Redis', 0]]);
  for (let i = 0; i < 10; i++) await clock.advance(500);
  // Told once, and asked again by one timer.
  expect(failures).toEqual([['no Redis', 0]]);
  expect(clock.pending).toBeLessThanOrEqual(2);
  isAway = false;
  for (let i = 0; i < 10; i++) await clock.advance(500);
  for (const visitor of visitors) expect(visitor.seen.get('a')).toEqual([1]);
  for (const visitor of visitors) visitor.leave();
  await memory.close();
});

test('what becomes visible while a disk is read is not forgotten, though no other wake-up comes', async () => {
  const memory = memoryEventLog();
  const append = () => void memory.append('default/a', { type: 'tick', atMs: 0, data: 1, durable: false });
  const log = slowLog(memory, () => 0);
  let hold: (() => void) | undefined;
  let isSlow = false;
  log.read = (channel, after, limit) => {
    const page = memory.read(channel, after, limit);
    if (!isSlow) return page;
    isSlow = false;
    return new Promise((resolve) => {
      hold = () => resolve(page);
    });
  };
  const fanOut = new FanOut({
    log,
    clock: wholeRounds,
    bufferBytes: 10,
    onFinished: () => undefined,
    onReadFailed: () => undefined,
  });
  const visitor = new Visitor(fanOut, ['default/a'], () => 0.5);
  visitor.come();
  append();
  await expect.poll(() => visitor.seen.get('a')).toEqual([1]);
  isSlow = true;
  append();
  await expect.poll(() => hold).toBeDefined();
  append();
  for (let i = 0; i < 10; i++) await turn();
  hold?.();
  await expect.poll(() => visitor.seen.get('a')).toEqual([1, 2, 3]);
  visitor.leave();
  await memory.close();
});

test('no text can break out of its line in a frame', () => {
  const frame = encodeFrame('a\rdata: forged\n\0', '{"a":\r\n1,\r"b":\0 2}').toString();
  expect(frame).toBe('event: a data: forged  \ndata: {"a":  1, "b":  2}\n\n');
});
