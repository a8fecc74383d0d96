import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { watchEvents } from '../../src/events/watch-events.ts';
import { openRedis } from '../../src/redis/index.ts';
import type { RedisEventLog } from '../../src/redis/redis-event-log.ts';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import { newEvent, numberOf, readAll } from '../contracts/event-log.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer, until } from '../support/redis.ts';
import { patiently } from './patient.ts';
import { openNode } from './redis-nodes.ts';

let server: RedisServer;
let proxy: FaultProxy;

/** A device that sends each event until it is taken, as devices do. */
async function sendAll(log: RedisEventLog, channel: string, count: number, pauseMs: number): Promise<number> {
  let refused = 0;
  for (let n = 1; n <= count; n++) {
    for (;;) {
      try {
        await log.append(channel, newEvent(n, { durable: true, producer: { id: 'boot', seq: n } }));
        break;
      } catch (error) {
        expect(toHubError(error).code).toBe('unavailable');
        refused++;
        await sleep(20);
      }
    }
    await sleep(pauseMs);
  }
  return refused;
}

/** A watcher that comes back with its cursor whenever its stream breaks. */
function watcherOf(log: RedisEventLog, channel: string) {
  const stop = new AbortController();
  const seen: (number | string)[] = [];
  const done = (async () => {
    let from: string | undefined = 'start';
    while (!stop.signal.aborted) {
      try {
        for await (const { event, cursor } of watchEvents(log, { channels: [channel], from, signal: stop.signal })) {
          seen.push(event.type.startsWith('hub.') ? event.type : numberOf(event));
          from = cursor;
        }
      } catch (error) {
        expect(toHubError(error).code).toBe('unavailable');
        await sleep(50);
      }
    }
  })();
  const leave = () => {
    stop.abort();
    return done;
  };
  return { seen, leave };
}

/** Three nodes send and watch while something happens to Redis; at the end everything is there, once and in order. */
async function survives(count: number, pauseMs: number, trouble: () => Promise<void>): Promise<number> {
  const options = { url: `redis://${proxy.address}`, prefix: 'f', timeoutMs: 500, sweepMs: 200 };
  const logs = await Promise.all([1, 2, 3].map(() => patiently(() => openNode(options))));
  const channels = logs.map((_, i) => `t/client.${i}`);
  const watchers = channels.map((channel, i) => watcherOf(logs[(i + 1) % 3]!, channel));
  const sending = Promise.all(channels.map((channel, i) => sendAll(logs[i]!, channel, count, pauseMs)));
  await trouble();
  const refused = await sending;
  const all = Array.from({ length: count }, (_, i) => i + 1);
  const numbers = (seen: readonly (number | string)[]) => seen.filter((each) => typeof each === 'number');
  await until(() => watchers.every(({ seen }) => numbers(seen).length >= count));
  // A notice is allowed: what was refused may have been meant for them.
  for (const { seen } of watchers) expect(numbers(seen)).toEqual(all);
  for (const [i, channel] of channels.entries())
    expect((await patiently(() => readAll(logs[i]!, channel))).numbers).toEqual(all);
  await Promise.all(watchers.map(({ leave }) => leave()));
  return refused.reduce((sum, each) => sum + each, 0);
}

describeNeeding('redis', 'events while Redis is in trouble', () => {
  beforeEach(async () => {
    server = await RedisServer.start({ settings: { appendfsync: 'always' } });
    proxy = await faultProxy({ target: `127.0.0.1:${server.port}` });
  });
  afterEach(async () => {
    await proxy.close();
    await server.close();
  });

  test('answers that are lost, and calls that are made again for it, double nothing', async () => {
    await survives(150, 5, async () => {
      for (let i = 0; i < 8; i++) {
        await sleep(100);
        // Redis does what it is told, and nobody hears of it.
        proxy.blackHole('down');
        await sleep(30);
        proxy.heal();
      }
    });
  });

  test('nor do they double events without a number of their own, nor lose any that was taken', async () => {
    const options = { url: `redis://${proxy.address}`, prefix: 'p', timeoutMs: 500, sweepMs: 200 };
    const log = await patiently(() => openNode(options));
    const taken: number[] = [];
    let isOver = false;
    const trouble = (async () => {
      while (!isOver) {
        await sleep(60);
        proxy.blackHole('down');
        await sleep(20);
        proxy.heal();
      }
    })();
    for (let n = 1; taken.length < 100; n++) {
      try {
        await log.append('t/x', newEvent(n, { durable: true }));
        taken.push(n);
      } catch (error) {
        expect(toHubError(error).code).toBe('unavailable');
      }
      await sleep(4);
    }
    isOver = true;
    await trouble;
    let found: number[] = [];
    await until(async () => {
      try {
        found = (await readAll(log, 't/x')).numbers;
        return true;
      } catch {
        return false;
      }
    });
    expect(found).toEqual([...new Set(found)].sort((a, b) => a - b));
    expect(taken.filter((n) => !found.includes(n))).toEqual([]);
  });

  test('connections that are cut cost nothing', async () => {
    await survives(150, 5, async () => {
      for (let i = 0; i < 15; i++) {
        await sleep(60);
        proxy.cutAll();
      }
    });
  });

  test('a Redis that dies and comes back has all that was taken; what was refused can be sent again', async () => {
    const refused = await survives(100, 10, async () => {
      await sleep(200);
      await server.kill();
      await sleep(1200);
      await server.restart();
    });
    expect(refused).toBeGreaterThan(0);
  });

  test('a Redis that is frozen refuses in time, and goes on', async () => {
    const refused = await survives(100, 10, async () => {
      await sleep(200);
      server.freeze();
      onTestFinished(() => server.thaw());
      await sleep(1500);
      server.thaw();
    });
    expect(refused).toBeGreaterThan(0);
  });

  test('an event that cannot be kept is refused at once when many wait, and readers are told of a gap', async () => {
    const options = { url: `redis://${proxy.address}`, prefix: 'q', timeoutMs: 500, sweepMs: 50, shards: 1 };
    const log = await patiently(() => openNode({ ...options, maxWaitingEvents: 10 }));
    await patiently(() => log.append('t/x', newEvent(1, { durable: true, producer: { id: 'boot', seq: 1 } })));
    server.freeze();
    const sent = Array.from({ length: 30 }, (_, i) => log.append('t/x', newEvent(i + 2, { durable: true }))!);
    const ends = await Promise.allSettled(sent);
    server.thaw();
    expect(ends.every(({ status }) => status === 'rejected')).toBe(true);
    await until(async () => {
      try {
        await log.append('t/x', newEvent(99, { durable: true }));
        return true;
      } catch {
        return false;
      }
    });
    const { found, numbers } = await patiently(() => readAll(log, 't/x'));
    expect(found.some((item) => 'kind' in item && item.kind === 'gap')).toBe(true);
    expect(numbers[0]).toBe(1);
    expect(numbers).toContain(99);
  });
});

describeNeeding('redis', 'events on a replica', () => {
  test('with durability "replicated" what was taken is on the replica, when the primary is gone', async () => {
    await using primary = await RedisServer.start();
    await using replica = await RedisServer.start({ replicaOf: primary });
    await using store = await openRedis({ url: primary.url, durability: 'replicated' });
    const channels = Array.from({ length: 20 }, (_, i) => `t/client.${i}`);
    for (let n = 1; n <= 10; n++)
      await Promise.all(channels.map((channel) => store.log.append(channel, newEvent(n, { durable: true }))));
    const { epoch } = store.log;
    await primary.kill();
    await replica.call('REPLICAOF', 'NO', 'ONE');
    await using promoted = await openRedis({ url: replica.url });
    expect(promoted.log.epoch).toBe(epoch);
    for (const channel of channels)
      expect((await readAll(promoted.log, channel)).numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('without a replica no durable event is taken, and nobody waits for ever', async () => {
    await using primary = await RedisServer.start();
    await using store = await openRedis({ url: primary.url, durability: 'replicated', timeoutMs: 300 });
    await expect(store.log.append('t/x', newEvent(1, { durable: true }))).rejects.toMatchObject({
      code: 'unavailable',
    });
  });
});

describeNeeding('redis', 'events in a Redis Cluster', () => {
  test('channels are spread over its members, and all of it works', async () => {
    const cluster = await RedisClusterServers.start();
    onTestFinished(() => cluster.close());
    const options = { url: cluster.url, prefix: 'c' };
    const [a, b] = (await Promise.all([openNode(options), openNode(options)])) as [RedisEventLog, RedisEventLog];
    const channels = Array.from({ length: 12 }, (_, i) => `t/client.${i}`);
    const watchers = channels.map((channel) => watcherOf(b, channel));
    for (let n = 1; n <= 5; n++)
      await Promise.all(channels.map((channel) => a.append(channel, newEvent(n, { durable: true }))));
    await until(() => watchers.every(({ seen }) => seen.length === 5));
    for (const { seen } of watchers) expect(seen).toEqual([1, 2, 3, 4, 5]);
    const sizes = await Promise.all(cluster.servers.map((server) => server.call('DBSIZE')));
    expect(sizes.every((size) => Number(size) > 0)).toBe(true);
    await Promise.all(watchers.map(({ leave }) => leave()));
  });
});
