import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { watchEvents } from '../../src/events/watch-events.ts';
import type { RedisEventLog } from '../../src/redis/redis-event-log.ts';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import { newEvent, numberOf, readAll } from '../contracts/event-log.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer, until } from '../support/redis.ts';
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
  const logs = await Promise.all([1, 2, 3].map(() => openNode(options)));
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
  for (const [i, channel] of channels.entries()) expect((await readAll(logs[i]!, channel)).numbers).toEqual(all);
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
    const log = await openNode({ ...options, maxWaitingEvents: 10 });
    await log.append('t/x', newEvent(1, { durable: true }));
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
    const { found, numbers } = await readAll(log, 't/x');
    expect(found.some((item) => 'kind' in item && item.kind === 'gap')).toBe(true);
    expect(numbers[0]).toBe(1);
    expect(numbers).toContain(99);
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
