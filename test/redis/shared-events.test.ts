import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LogEvent, NewEvent } from '../../src/events/event-log.ts';
import { EventReader } from '../../src/events/event-reader.ts';
import { GapNotice } from '../../src/events/gap-notice.ts';
import { watchEvents } from '../../src/events/watch-events.ts';
import type { RedisFact } from '../../src/redis/index.ts';
import type { RedisEventLog } from '../../src/redis/redis-event-log.ts';
import { newEvent, numberOf, readAll } from '../contracts/event-log.ts';
import { MuteProxy } from '../support/mute-proxy.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';
import { stalls } from '../support/stalls.ts';
import { type NodeOptions, openNode } from './redis-nodes.ts';

let server: RedisServer;
let prefix: string;
let opened = 0;

/** Collects what a watcher sees: numbers of events, and types of notices. */
function watching(log: RedisEventLog, channel: string, from?: string) {
  const stop = new AbortController();
  const seen: (number | string)[] = [];
  const at = { cursor: from };
  const done = (async () => {
    for await (const { event, cursor } of watchEvents(log, { channels: [channel], from, signal: stop.signal })) {
      seen.push(event.type.startsWith('hub.') ? event.type : numberOf(event));
      at.cursor = cursor;
    }
  })();
  const leave = async () => {
    stop.abort();
    await done;
    return at.cursor!;
  };
  return { seen, leave, has: (count: number) => until(() => seen.length >= count) };
}

/**
 * Numbers that are missing without a word, or came out of order. Of what one node skips while it does not know yet that
 * another one keeps, the word may come a little behind what that other one kept.
 */
function silentHoles(seen: readonly LogEvent[]): number[] {
  const lastNotice = seen.findLastIndex((event) => event instanceof GapNotice);
  const wrong: number[] = [];
  let expected = 1;
  let before = -1;
  for (const [i, event] of seen.entries()) {
    if (event instanceof GapNotice) continue;
    const n = numberOf(event);
    if (n < expected || (n > expected && lastNotice < before)) wrong.push(n);
    expected = n + 1;
    before = i;
  }
  return wrong;
}

const durable = (n: number, more: Partial<NewEvent> = {}) => newEvent(n, { durable: true, ...more });
/** How many channels somebody is interested in. */
const countInterest = `
local time, wanted = redis.call('TIME'), 0
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*:ev:interest')) do
  wanted = wanted + redis.call('ZCOUNT', key, time[1] * 1000, '+inf')
end
return wanted`;
/** What was appended at this node is in Redis (or was skipped). */
const settled = (log: RedisEventLog, channel: string) => log.lastFrom(channel, 'nobody');

describeNeeding('redis', 'events of several nodes', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());
  beforeEach(() => {
    prefix = `n${++opened}`;
  });
  const node = (options: Partial<NodeOptions> = {}) => openNode({ url: server.url, prefix, ...options });
  const nodes = (count: number, options: Partial<NodeOptions> = {}) =>
    Promise.all(Array.from({ length: count }, () => node(options)));
  const keys = async () => (await server.call('KEYS', `${prefix}:*`)) as string[];

  test('an event of one node is seen at another, at once', async () => {
    const [a, b] = (await nodes(2, { sweepMs: 60_000 })) as [RedisEventLog, RedisEventLog];
    const watcher = watching(b, 't/client.pump-7', 'start');
    await a.append('t/client.pump-7', durable(1));
    await watcher.has(1);
    await b.append('t/client.pump-7', durable(2));
    await a.append('t/client.pump-7', durable(3));
    await watcher.has(3);
    expect(watcher.seen).toEqual([1, 2, 3]);
    await watcher.leave();
  });

  test('a cursor that was taken at one node is good at every other', async () => {
    const [a, b, c] = (await nodes(3)) as [RedisEventLog, RedisEventLog, RedisEventLog];
    for (const n of [1, 2, 3]) await a.append('t/x', durable(n));
    expect([a.epoch, a.epoch]).toEqual([b.epoch, c.epoch]);
    const watcher = watching(a, 't/x', 'start');
    await watcher.has(2);
    const cursor = await watcher.leave();
    await b.append('t/x', durable(4));
    const next = watching(b, 't/x', cursor);
    await next.has(4 - watcher.seen.length);
    await b.append('t/x', durable(5));
    await next.has(5 - watcher.seen.length);
    const last = watching(c, 't/x', await next.leave());
    await a.append('t/x', durable(6));
    await last.has(1);
    expect([...watcher.seen, ...next.seen, ...last.seen]).toEqual([1, 2, 3, 4, 5, 6]);
    await last.leave();
  });

  test('a log that is opened later reads what was kept, under the same numbers', async () => {
    const a = await node();
    for (const n of [1, 2, 3]) await a.append('t/x', durable(n));
    await a.close();
    const b = await node();
    expect((await readAll(b, 't/x')).numbers).toEqual([1, 2, 3]);
    await b.append('t/x', durable(4));
    expect((await readAll(b, 't/x', { epoch: a.epoch, seq: 3 })).found).toMatchObject([{ epoch: a.epoch, seq: 4 }]);
  });

  test('watchers of one node share the events that were read, and are served from memory', async () => {
    const [a] = (await nodes(1)) as [RedisEventLog];
    const release = a.watch('t/x', () => undefined);
    for (const n of [1, 2]) await a.append('t/x', durable(n));
    const [one, two] = (await a.read('t/x', { epoch: a.epoch, seq: 0 }, 10)).events;
    const page = a.read('t/x', { epoch: a.epoch, seq: 1 }, 10);
    expect(page).not.toBeInstanceOf(Promise);
    expect((await page).events[0]).toBe(two);
    expect((await page).atEnd).toBe(true);
    expect(one).toMatchObject({ seq: 1 });
    release();
  });

  describe('events that are not durable', () => {
    test('cost Redis nothing while nobody watches, and are kept while somebody does, at any node', async () => {
      const [a, b] = (await nodes(2)) as [RedisEventLog, RedisEventLog];
      for (const n of [1, 2, 3]) a.append('t/client.p', newEvent(n));
      await settled(a, 't/client.p');
      expect((await keys()).filter((key) => key.includes('client.p'))).toEqual([]);
      const watcher = watching(b, 't/client.p');
      await until(async () => (await keys()).some((key) => key.includes('client.p')));
      await until(() => {
        a.append('t/client.p', newEvent(4));
        return watcher.seen.includes(4);
      });
      expect(watcher.seen.filter((each) => each !== 4 && each !== 'hub.gap')).toEqual([]);
      await watcher.leave();
    });

    test('are told as a gap to a watcher who comes back, and only if there were any', async () => {
      const options = { interestMs: 500, sweepMs: 20 };
      const [a, b, c] = (await nodes(3, options)) as [RedisEventLog, RedisEventLog, RedisEventLog];
      await a.append('t/client.p', durable(1));
      const watcher = watching(b, 't/client.p', 'start');
      await watcher.has(1);
      // By asking, it has heard that somebody watches.
      await a.end('t/client.p');
      a.append('t/client.p', newEvent(2));
      await watcher.has(2);
      expect(watcher.seen).toEqual([1, 2]);
      const cursor = await watcher.leave();
      // Nothing happened meanwhile: nothing is told.
      await sleep(100);
      const again = watching(c, 't/client.p', cursor);
      await sleep(100);
      const later = await again.leave();
      expect(again.seen).toEqual([]);
      // Nobody is interested, and the node where it happens knows that: what it has to tell is not kept any more.
      await until(async () => Number(await server.call('EVAL', countInterest, 0, prefix)) === 0);
      const stream = (await keys()).find((key) => key.endsWith(':s:t/client.p'))!;
      const kept = () => server.call('XLEN', stream);
      const early = 100;
      await until(async () => {
        const before = await kept();
        a.append('t/client.p', newEvent(early));
        await settled(a, 't/client.p');
        return (await kept()) === before;
      });
      a.append('t/client.p', newEvent(3));
      a.append('t/client.p', newEvent(4));
      await a.append('t/client.p', durable(5));
      a.append('t/client.p', newEvent(6));
      await settled(a, 't/client.p');
      const back = watching(c, 't/client.p', later);
      await until(() => back.seen.includes(5) && back.seen.at(-1) === 'hub.gap');
      await a.append('t/client.p', durable(7));
      await until(() => back.seen.includes(7));
      // A node that cannot be sure that the others know of what it has skipped just now tells it once more.
      const told = back.seen.filter((each, i) => each !== early && each !== back.seen[i - 1]);
      expect(told).toEqual(['hub.gap', 5, 'hub.gap', 7]);
      await back.leave();
    });

    test('are told as a gap also where another node has told of the first that was skipped', async () => {
      const b = await node({ interestMs: 50, sweepMs: 20 });
      await b.append('t/client.p', durable(1));
      const first = watching(b, 't/client.p', 'start');
      await first.has(1);
      const cursor = await first.leave();
      await until(async () => Number(await server.call('EVAL', countInterest, 0, prefix)) === 0);
      // It never knew of that interest.
      const a = await node({ interestMs: 30_000, sweepMs: 20 });
      a.append('t/client.p', newEvent(2));
      await settled(a, 't/client.p');
      await b.append('t/client.p', durable(3));
      a.append('t/client.p', newEvent(4));
      await settled(a, 't/client.p');
      const back = watching(b, 't/client.p', cursor);
      await until(() => back.seen.includes(3) && back.seen.at(-1) === 'hub.gap');
      await a.append('t/client.p', durable(5));
      await until(() => back.seen.includes(5));
      expect(back.seen.filter((each, i) => each !== back.seen[i - 1])).toEqual(['hub.gap', 3, 'hub.gap', 5]);
      await back.leave();
    });

    test('of a command are told by the node that has it, from the first, to a reader at any node', async () => {
      for (const isMute of [false, true]) {
        await using proxy = await MuteProxy.open(server.port);
        const subscriberUrl = isMute ? proxy.url : server.url;
        const options = { sweepMs: 100, subscriberUrl, prefix: `${prefix}${isMute}` };
        const [a, b, c] = (await nodes(3, options)) as [RedisEventLog, RedisEventLog, RedisEventLog];
        const asked: string[] = [];
        a.recallCommands((channel) => {
          asked.push(channel);
          return channel === 't/command.x' ? { events: [newEvent(1), newEvent(2)], isWhole: true } : undefined;
        });
        c.recallCommands(() => undefined);
        const watcher = watching(b, 't/command.x', 'start');
        await watcher.has(2);
        a.append('t/command.x', newEvent(3));
        await watcher.has(3);
        expect(watcher.seen).toEqual([1, 2, 3]);
        // A second reader finds it open.
        expect((await readAll(c, 't/command.x')).numbers).toEqual([1, 2, 3]);
        expect(asked).toEqual(['t/command.x']);
        await watcher.leave();
      }
    });

    test('of a command wait in the memory of its node until somebody reads them', async () => {
      const [a, b] = (await nodes(2)) as [RedisEventLog, RedisEventLog];
      for (let n = 1; n <= 50; n++) a.append('t/command.x', newEvent(n));
      await settled(a, 't/command.x');
      expect((await keys()).filter((key) => key.includes('command.x'))).toEqual([]);
      const watcher = watching(b, 't/command.x', 'start');
      await watcher.has(50);
      a.append('t/command.x', newEvent(51));
      await watcher.has(51);
      expect(watcher.seen).toEqual(Array.from({ length: 51 }, (_, i) => i + 1));
      await watcher.leave();
    });

    test('of a command that were too many for that memory are told as a gap', async () => {
      const [a, b] = (await nodes(2, { memory: { ringEvents: 3 } })) as [RedisEventLog, RedisEventLog];
      for (let n = 1; n <= 10; n++) a.append('t/command.x', newEvent(n));
      const watcher = watching(b, 't/command.x', 'start');
      await watcher.has(4);
      expect(watcher.seen).toEqual(['hub.gap', 8, 9, 10]);
      await watcher.leave();
    });
  });

  test("a device's event that is sent again to another node is kept once", async () => {
    const [a, b] = (await nodes(2)) as [RedisEventLog, RedisEventLog];
    const send = (log: RedisEventLog, n: number, id = 'boot-1') =>
      log.append('t/client.p', durable(n, { producer: { id, seq: n } }));
    await Promise.all([send(a, 1), send(a, 2), send(a, 3)]);
    await Promise.all([send(b, 2), send(b, 3), send(b, 4), send(a, 3)]);
    await send(b, 1, 'boot-2');
    expect((await readAll(a, 't/client.p')).numbers).toEqual([1, 2, 3, 4, 1]);
    expect(await b.lastFrom('t/client.p', 'boot-1')).toBe(4);
    expect(await a.lastFrom('t/client.p', 'boot-2')).toBe(1);
  });

  test('only so many producers are remembered, those heard last', async () => {
    const a = await node({ maxProducers: 2 });
    for (const id of ['one', 'two', 'three']) {
      await a.append('t/x', durable(1, { producer: { id, seq: 1 } }));
      await sleep(2);
    }
    expect(await Promise.all(['one', 'two', 'three'].map((id) => a.lastFrom('t/x', id)))).toEqual([0, 1, 1]);
  });

  describe('what is kept is limited', () => {
    test('in age', async () => {
      const a = await node({ maxEventAgeMs: 100 });
      await a.append('t/x', durable(1));
      await sleep(110);
      await a.append('t/x', durable(2));
      expect((await readAll(a, 't/x')).found).toMatchObject([{ kind: 'gap', from: 1, to: 1 }, { seq: 2 }]);
    });

    test('in bytes of one channel and of all', async () => {
      const a = await node({ maxEventBytes: 10_000, maxTotalBytes: 40_000, shards: 1, interestMs: 1 });
      const big = (n: number) => durable(n, { data: { n, text: 'x'.repeat(3000) } });
      for (let n = 1; n <= 10; n++) await a.append('t/x', big(n));
      expect((await readAll(a, 't/x')).numbers).toEqual([8, 9, 10]);
      await sleep(2);
      for (let i = 0; i < 10; i++) for (let n = 1; n <= 4; n++) await a.append(`t/${i}`, big(n));
      const kept = Number(await server.call('HGET', `${prefix}:{0}:ev:shard`, 'bytes'));
      expect(kept).toBeLessThanOrEqual(40_000);
      expect((await readAll(a, 't/x', { epoch: a.epoch, seq: 9 })).found[0]).toMatchObject({ kind: 'reset' });
      expect((await readAll(a, 't/9')).numbers).toEqual([2, 3, 4]);
    });

    test('in channels in which nothing happens any more, and of those nothing is left', async () => {
      const a = await node({ maxEventAgeMs: 60, maxCommandAgeMs: 30, sweepMs: 10, shards: 1, interestMs: 5 });
      await a.append('t/x', durable(1, { producer: { id: 'boot', seq: 1 } }));
      await a.append('t/command.y', durable(1));
      await until(async () => (await keys()).every((key) => !/:[csp]:/.test(key)));
      expect(await server.call('ZCARD', `${prefix}:{0}:ev:channels`)).toBe(0);
      expect(Number(await server.call('HGET', `${prefix}:{0}:ev:shard`, 'bytes'))).toBe(0);
    });
  });

  describe('P17: pub/sub is a hint', () => {
    test('without it all arrives within two seconds, as without a watch', async () => {
      using held = stalls();
      await using proxy = await MuteProxy.open(server.port);
      const muted = (await nodes(3, { subscriberUrl: proxy.url, sweepMs: 250 })) as RedisEventLog[];
      const channels = Array.from({ length: 20 }, (_, i) => `t/client.${i}`);
      const late: number[] = [];
      const sentAt = new Map<string, number>();
      const watchers = channels.map((channel, i) => {
        const seen: number[] = [];
        const stop = new AbortController();
        const done = (async () => {
          const options = { channels: [channel], from: 'start', signal: stop.signal };
          for await (const { event } of watchEvents(muted[(i + 1) % 3]!, options)) {
            seen.push(numberOf(event));
            late.push(performance.now() - sentAt.get(`${channel} ${numberOf(event)}`)!);
          }
        })();
        return { seen, stop, done };
      });
      const count = 30;
      for (let n = 1; n <= count; n++) {
        await Promise.all(
          channels.map(async (channel, i) => {
            sentAt.set(`${channel} ${n}`, performance.now());
            await muted[i % 3]!.append(channel, durable(n));
          }),
        );
        await sleep(50);
      }
      await until(() => watchers.every(({ seen }) => seen.length === count));
      const all = Array.from({ length: count }, (_, i) => i + 1);
      for (const { seen } of watchers) expect(seen).toEqual(all);
      expect(proxy.lost).toBeGreaterThan(count);
      expect(late.length).toBe(count * channels.length);
      expect(Math.max(...late)).toBeLessThan(2000 + held.ms);
      for (const { stop } of watchers) stop.abort();
      await Promise.all(watchers.map(({ done }) => done));
    });
  });

  test('a Redis that came back empty begins a new epoch, which readers are told', async () => {
    const facts: RedisFact[] = [];
    const observe = (fact: RedisFact) => void facts.push(fact);
    const [a, b] = (await nodes(2, { sweepMs: 50, observe })) as [RedisEventLog, RedisEventLog];
    const before = a.epoch;
    for (const n of [1, 2, 3]) await a.append('t/x', durable(n));
    const watcher = watching(b, 't/x', 'start');
    await watcher.has(3);
    const client = server.client();
    await client.del(...(await keys()));
    client.disconnect();
    await a.append('t/x', durable(4));
    await watcher.has(5);
    expect(watcher.seen).toEqual([1, 2, 3, 'hub.reset', 4]);
    expect(a.epoch).toBeGreaterThan(before);
    await until(() => b.epoch === a.epoch);
    await a.append('t/x', durable(5));
    await watcher.has(6);
    expect(facts.filter(({ kind }) => kind === 'redis-emptied').length).toBeGreaterThan(0);
    const cursor = await watcher.leave();
    const next = watching(a, 't/x', cursor);
    await a.append('t/x', durable(6));
    await next.has(1);
    expect(next.seen).toEqual([6]);
    await next.leave();
  });

  test('a new epoch loses nothing that is there: it is read first, and readers are told', async () => {
    const a = await node();
    for (const n of [1, 2, 3]) await a.append('t/x', durable(n));
    const { position: cursor } = await readAll(a, 't/x', { epoch: a.epoch, seq: 0 }, 2);
    expect(cursor).toEqual({ epoch: a.epoch, seq: 3 });
    const older = a.epoch;
    await server.call('SET', `${prefix}:ev:epoch`, older + 1000);
    const b = await node();
    expect(b.epoch).toBe(older + 1000);
    const fresh = watching(b, 't/x', 'start');
    await b.append('t/x', durable(4));
    // A node that has not heard of it yet hears of it with its answer.
    await a.append('t/x', durable(5));
    expect(a.epoch).toBe(b.epoch);
    await fresh.has(6);
    expect(fresh.seen).toEqual(['hub.reset', 1, 2, 3, 4, 5]);
    await fresh.leave();
    const reset = { kind: 'reset', reason: 'restarted' };
    const { found } = await readAll(b, 't/x', { epoch: older, seq: 2 });
    expect(found.filter((item) => 'kind' in item)).toEqual([reset, reset]);
    expect(found.flatMap((item) => ('seq' in item ? [item.seq] : []))).toEqual([3, 1, 2]);
  });

  test.each(['with', 'without'])(
    'whatever happens at whichever node, a watcher who changes nodes sees the source or a notice, %s pub/sub',
    async (pubSub) => {
      await using proxy = await MuteProxy.open(server.port);
      const subscriberUrl = pubSub === 'without' ? proxy.url : server.url;
      const step = fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            kind: fc.constant('append' as const),
            at: fc.nat(2),
            count: fc.integer({ min: 1, max: 4 }),
            durable: fc.boolean(),
          }),
        },
        {
          weight: 3,
          arbitrary: fc.record({ kind: fc.constant('read' as const), size: fc.integer({ min: 1, max: 5 }) }),
        },
        {
          weight: 2,
          arbitrary: fc.record({
            kind: fc.constant('cut' as const),
            to: fc.nat(2),
            awayMs: fc.constantFrom(0, 0, 120),
          }),
        },
        { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(1, 12, 60) }) },
      );
      const logs = await nodes(3, { interestMs: 90, sweepMs: 25, shards: 4, maxEvents: 12, subscriberUrl });
      let run = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
          const channel = `t/client.${++run}`;
          const seen: LogEvent[] = [];
          let last = 0;
          let reader = new EventReader(logs[0]!, { channels: [channel], from: 'start' });
          // What nobody kept before anybody looked is nobody's loss.
          expect(await reader.poll(1)).toEqual([]);
          for (const now of steps) {
            if (now.kind === 'append') {
              const log = logs[now.at]!;
              for (let i = 0; i < now.count; i++) void log.append(channel, newEvent(++last, { durable: now.durable }));
              // The next one may append elsewhere, behind these.
              await settled(log, channel);
            } else if (now.kind === 'read') {
              if (reader.mayHaveMore) seen.push(...(await reader.poll(now.size)));
            } else if (now.kind === 'cut') {
              const cursor = reader.cursor();
              reader.close();
              await sleep(now.awayMs);
              reader = new EventReader(logs[now.to]!, { channels: [channel], from: cursor });
            } else await sleep(now.ms);
          }
          // What is told later is told by then.
          const end = { type: 'end', atMs: 1, data: { n: last + 1 }, durable: true };
          await logs[0]!.append(channel, end);
          const stop = new AbortController();
          const cursor = reader.cursor();
          reader.close();
          const letGo = setTimeout(() => stop.abort(), 10_000);
          const options = { channels: [channel], from: cursor, signal: stop.signal };
          for await (const { event } of watchEvents(logs[1]!, options)) {
            seen.push(event);
            if (seen.some(({ type }) => type === 'end') && silentHoles(seen).length === 0) break;
          }
          clearTimeout(letGo);
          expect(silentHoles(seen)).toEqual([]);
        }),
        { numRuns: 40 },
      );
    },
    120_000,
  );
});
