import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type HubEvent,
  type HubGap,
  HubProblem,
  type HubReset,
  type WatchOptions,
  type WatchState,
  watch,
  watchEvents,
} from '../../src/browser/index.ts';
import { FakeClock, FakeHub, frame, settle } from './fakes.ts';

/** A watch on a fake hub, with everything it tells. */
function watching(options: Partial<WatchOptions> = {}) {
  const hub = new FakeHub();
  const clock = new FakeClock();
  const events: HubEvent[] = [];
  const gaps: HubGap[] = [];
  const resets: HubReset[] = [];
  const states: WatchState[] = [];
  const watched = watch({
    channels: ['fleet'],
    onEvent: (event) => events.push(event),
    onGap: (gap) => gaps.push(gap),
    onReset: (reset) => resets.push(reset),
    onState: (state) => states.push(state),
    fetch: hub.fetch,
    clock,
    random: () => 1,
    ...options,
  });
  onTestFinished(() => watched.close());
  return { hub, clock, events, gaps, resets, states, watched };
}

describe('watching', () => {
  test('asks for its channels and gives each event once, in order', async () => {
    const { hub, events, states } = watching({ url: 'http://hub/', channels: ['fleet', 'client.a&b'] });
    await settle();
    expect(hub.last.url).toBe('http://hub/v1/events?channel=fleet&channel=client.a%26b');
    expect(hub.last.headers.get('accept')).toBe('text/event-stream');
    await hub.last.open(`retry: 100\n: hello\nid: start\n\n${frame(1)}${frame(2, { data: { a: 1 } })}`);
    expect(events.map(({ seq }) => seq)).toEqual([1, 2]);
    expect(events[1]).toEqual({
      channel: 'fleet',
      epoch: 1,
      seq: 2,
      type: 'tick',
      at: '2026-01-01T00:00:00.000Z',
      data: { a: 1 },
      cursor: 'fleet-1-2',
    });
    expect(states.at(-1)).toEqual({ kind: 'live' });
  });

  test('goes on after a cut where it was, and drops what is told a second time', async () => {
    const { hub, clock, events, watched } = watching();
    await settle();
    await hub.last.open(`${frame(1)}${frame(2)}`);
    await hub.last.cut();
    expect(watched.state.kind).toBe('reconnecting');
    await clock.advance(500);
    expect(hub.exchanges).toHaveLength(2);
    expect(hub.last.headers.get('last-event-id')).toBe('fleet-1-2');
    await hub.last.open(`${frame(2)}${frame(3)}`);
    expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(watched.cursor).toBe('fleet-1-3');
  });

  test('goes on from the first id, even if no event came with it', async () => {
    const { hub, clock } = watching();
    await settle();
    await hub.last.open('id: start\n\n');
    await hub.last.end();
    await clock.advance(500);
    expect(hub.last.headers.get('last-event-id')).toBe('start');
  });

  test('takes the same number of another channel or a later epoch for something new', async () => {
    const { hub, events } = watching();
    await settle();
    await hub.last.open(frame(5) + frame(5, { channel: 'client.a' }) + frame(1, { epoch: 2 }) + frame(6));
    expect(events.map(({ channel, epoch, seq }) => [channel, epoch, seq])).toEqual([
      ['fleet', 1, 5],
      ['client.a', 1, 5],
      ['fleet', 2, 1],
    ]);
  });

  test('tells of gaps and resets, and after a reset takes lower numbers again', async () => {
    const { hub, events, gaps, resets } = watching();
    await settle();
    await hub.last.open(
      `${frame(9)}event: hub.gap\ndata: {"channel":"fleet","epoch":1,"from":10,"to":12}\n\n` +
        `event: hub.reset\ndata: {"channel":"fleet","reason":"restarted"}\n\n${frame(1)}`,
    );
    expect(gaps).toEqual([{ channel: 'fleet', epoch: 1, from: 10, to: 12 }]);
    expect(resets).toEqual([{ channel: 'fleet', reason: 'restarted' }]);
    expect(events.map(({ seq }) => seq)).toEqual([9, 1]);
  });

  test('is finished when the hub has nothing more', async () => {
    const { hub, clock, watched, states } = watching();
    await settle();
    await hub.last.respond(204);
    await watched.done;
    expect(states.at(-1)).toEqual({ kind: 'closed', reason: 'finished' });
    expect(clock.waits).toEqual([]);
  });

  test('waits twice as long after each failure, up to its limit, and begins anew once it has worked', async () => {
    const { hub, clock, states } = watching({ backoff: { baseMs: 100, maxMs: 350 } });
    const waits: number[] = [];
    for (let failure = 0; failure < 4; failure += 1) {
      await settle();
      await hub.last.cut();
      const state = states.at(-1)!;
      if (state.kind === 'reconnecting') waits.push(state.inMs);
      await clock.advance(350);
    }
    expect(waits).toEqual([100, 200, 350, 350]);
    await hub.last.open(': hello\n\n');
    await hub.last.send(frame(1));
    await hub.last.cut();
    expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', inMs: 100 });
  });

  test('spreads its waits over the whole time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.double({ min: 0, max: 1, noNaN: true }), async (dice) => {
        const { hub, states } = watching({ random: () => dice, backoff: { baseMs: 1000, maxMs: 1000 } });
        await settle();
        await hub.last.cut();
        expect(states.at(-1)).toMatchObject({ inMs: Math.ceil(dice * 1000) });
      }),
      { numRuns: 20 },
    );
  });

  test('heeds the time to wait that the stream named', async () => {
    const { hub, states } = watching();
    await settle();
    await hub.last.open('retry: 2000\n\n');
    await hub.last.end();
    expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', inMs: 2000 });
  });

  test('does not come back before Retry-After', async () => {
    const { hub, clock, states } = watching();
    await settle();
    await hub.last.respond(503, { detail: 'the hub is draining' }, { 'retry-after': '7' });
    expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', inMs: 7500, problem: { status: 503 } });
    await clock.advance(7000);
    expect(hub.exchanges).toHaveLength(1);
    await clock.advance(500);
    expect(hub.exchanges).toHaveLength(2);
  });

  test('comes back after a drain when the hub asked it to', async () => {
    const { hub, states } = watching();
    await settle();
    await hub.last.open('event: hub.drain\ndata: {"reconnectAfterMs":3000,"spreadMs":1000}\n\n');
    await hub.last.end();
    expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', inMs: 4000 });
  });

  test('takes a silent connection for dead, and any byte for a sign of life', async () => {
    const { hub, clock, states } = watching({ watchdogMs: 45_000 });
    await settle();
    await hub.last.open(': hello\n\n');
    await clock.advance(44_000);
    await hub.last.send(':\n\n');
    await clock.advance(44_000);
    expect(states.at(-1)).toEqual({ kind: 'live' });
    await clock.advance(1000);
    expect(hub.last.isCut).toBe(true);
    expect(states.at(-1)).toMatchObject({
      kind: 'reconnecting',
      problem: { message: 'nothing was heard for 45000 ms' },
    });
  });

  test('does not wait for ever for an answer', async () => {
    const { hub, clock, states } = watching();
    await settle();
    await clock.advance(45_000);
    expect(hub.last.isCut).toBe(true);
    expect(states.at(-1)?.kind).toBe('reconnecting');
  });

  test('asks for another token when the hub refuses one', async () => {
    const asked: (string | undefined)[] = [];
    const { hub, clock, states } = watching({
      getToken: ({ refused }) => {
        asked.push(refused?.message);
        return refused ? 'fresh' : 'stale';
      },
    });
    await settle();
    expect(hub.last.headers.get('authorization')).toBe('Bearer stale');
    await hub.last.respond(401, { code: 'unauthenticated', detail: 'the token has expired' });
    await clock.advance(500);
    expect(asked).toEqual([undefined, 'the token has expired']);
    expect(hub.last.headers.get('authorization')).toBe('Bearer fresh');
    await hub.last.open(frame(1));
    expect(states.at(-1)).toEqual({ kind: 'live' });
  });

  test('gives up when it is given the refused token again', async () => {
    const { hub, clock, watched } = watching({ getToken: () => 'stale' });
    await settle();
    await hub.last.respond(401, { detail: 'the token has expired' });
    await clock.advance(500);
    await expect(watched.done).rejects.toThrow('the token has expired');
    expect(hub.exchanges).toHaveLength(1);
  });

  test.each([
    [400, 'invalid-argument'],
    [401, 'unauthenticated'],
    [403, 'permission-denied'],
    [404, 'not-found'],
  ])('gives up at %i with %s, and says why', async (status, code) => {
    const { hub, clock, watched, states } = watching();
    await settle();
    await hub.last.respond(status, { detail: 'not like this' });
    await expect(watched.done).rejects.toThrow(HubProblem);
    expect(states.at(-1)).toMatchObject({
      kind: 'closed',
      reason: 'failed',
      problem: { code, message: 'not like this' },
    });
    expect(clock.waits).toEqual([]);
  });

  test('gives up at an answer that is no event stream', async () => {
    const { hub, watched } = watching();
    await settle();
    await hub.last.respond(200, {});
    await expect(watched.done).rejects.toThrow(/not text\/event-stream/);
  });

  test('gives up at an event that cannot be read, and names it', async () => {
    const { hub, watched } = watching();
    await settle();
    await hub.last.open('event: tick\ndata: {nonsense\n\n');
    await expect(watched.done).rejects.toThrow(/\{nonsense/);
    expect(hub.last.isCut).toBe(true);
  });

  test('leaves events of the hub itself that it does not know to newer versions', async () => {
    const { hub, events } = watching();
    await settle();
    await hub.last.open(`event: hub.weather\ndata: {"sun":true}\n\n${frame(1)}`);
    expect(events).toHaveLength(1);
  });

  test('ends at once when it is closed: while it is live, while it waits, while it asks for a token', async () => {
    const live = watching();
    await settle();
    await live.hub.last.open(frame(1));
    live.watched.close();
    await live.watched.done;
    expect(live.hub.last.isCut).toBe(true);

    const waiting = watching();
    await settle();
    await waiting.hub.last.cut();
    waiting.watched.close();
    await waiting.watched.done;

    const asking = watching({ getToken: () => new Promise(() => undefined) });
    await settle();
    asking.watched.close();
    await asking.watched.done;
    for (const { clock, watched } of [live, waiting, asking]) {
      expect(clock.waits).toEqual([]);
      expect(watched.state).toEqual({ kind: 'closed', reason: 'closed' });
    }
  });

  test('ends with its signal', async () => {
    const ending = new AbortController();
    const { hub, watched } = watching({ signal: ending.signal });
    await settle();
    await hub.last.open(frame(1));
    ending.abort();
    await watched.done;
    expect(watched.state).toEqual({ kind: 'closed', reason: 'closed' });
  });

  test('refuses options that could not work', () => {
    expect(() => watching({ channels: [] })).toThrow(/channels is empty/);
    expect(() => watching({ watchdogMs: 0 })).toThrow(/watchdogMs is 0/);
    expect(() => watching({ backoff: { baseMs: -1 } })).toThrow(/baseMs is -1/);
  });

  test('gives every event once and in order, however often and wherever it is cut', async () => {
    const gen = fc.record({
      total: fc.integer({ min: 1, max: 40 }),
      // How many bytes each connection lives, and how far behind its cursor the hub begins again.
      lives: fc.array(fc.record({ bytes: fc.integer({ min: 0, max: 900 }), behind: fc.nat(3) }), { maxLength: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(gen, async ({ total, lives }) => {
        const { hub, clock, events, watched } = watching();
        for (let connection = 0; events.length < total; connection += 1) {
          await settle();
          const after = Number(hub.last.headers.get('last-event-id')?.split('-')[2] ?? 0);
          const life = lives[connection] ?? { bytes: Number.POSITIVE_INFINITY, behind: 0 };
          let text = '';
          for (let seq = Math.max(1, after + 1 - life.behind); seq <= total; seq += 1) text += frame(seq);
          await hub.last.open(text.slice(0, Math.min(text.length, life.bytes)));
          if (connection < lives.length) await hub.last.cut();
          await clock.advance(30_000);
        }
        expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
        watched.close();
      }),
      { numRuns: 60 },
    );
  });
});

describe('watching in a loop', () => {
  test('gives events, gaps and resets in order, and drops the connection when the loop is left', async () => {
    const hub = new FakeHub();
    const clock = new FakeClock();
    const watcher = watchEvents({ channels: ['fleet'], fetch: hub.fetch, clock });
    const items: string[] = [];
    const loop = (async () => {
      for await (const item of watcher) {
        items.push(item.kind === 'event' ? `event ${item.event.seq}` : item.kind);
        if (items.length === 3) break;
      }
    })();
    await settle();
    await hub.last.open(
      `${frame(1)}event: hub.gap\ndata: {"channel":"fleet","epoch":1,"from":2,"to":3}\n\n${frame(4)}`,
    );
    await loop;
    expect(items).toEqual(['event 1', 'gap', 'event 4']);
    expect(hub.last.isCut).toBe(true);
    expect(clock.waits).toEqual([]);
  });

  test('ends without an error when it is closed from outside', async () => {
    const hub = new FakeHub();
    const watcher = watchEvents({ channels: ['fleet'], fetch: hub.fetch, clock: new FakeClock() });
    const next = watcher[Symbol.asyncIterator]().next();
    await settle();
    await hub.last.open();
    watcher.close();
    expect(await next).toEqual({ done: true, value: undefined });
  });
});
