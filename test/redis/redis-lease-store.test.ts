import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { StreamLeases } from '../../src/leases/index.ts';
import { RedisConnection } from '../../src/redis/connection.ts';
import { redisLeaseStore } from '../../src/redis/redis-lease-store.ts';
import { leaseStoreContract } from '../contracts/lease-store.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';

let server: RedisServer;
let opened = 0;

describeNeeding('redis', 'leases in Redis', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());
  const connect = (prefix = `p${++opened}`) => RedisConnection.open({ url: server.url, prefix });

  leaseStoreContract('Redis', async () => {
    const connection = await connect();
    // Its time is the server's, so it has to pass.
    const pass = (ms: number) => sleep(ms + 10);
    return { store: redisLeaseStore(connection), pass, isTimeless: false, close: () => connection.close() };
  });

  test("a user's key goes away by itself, a minute after the last lease in it could end", async () => {
    const connection = await connect('box');
    const leases = new StreamLeases({ store: redisLeaseStore(connection) });
    await leases.acquire('ann');
    const longer = new StreamLeases({ store: redisLeaseStore(connection), ttlMs: 200_000 });
    await longer.acquire('ann');
    const short = new StreamLeases({ store: redisLeaseStore(connection), ttlMs: 1000 });
    await (await short.acquire('ann')).release();
    expect(await server.call('KEYS', 'box*')).toEqual(['box:stream_leases:default/ann']);
    const lives = Number(await server.call('PTTL', 'box:stream_leases:default/ann'));
    expect(lives).toBeGreaterThan(255_000);
    expect(lives).toBeLessThanOrEqual(260_000);
    await leases.close();
    await longer.close();
    expect(await server.call('KEYS', 'box*')).toEqual([]);
    await connection.close();
  });

  test('namespaces keep leases of one kind from those of another', async () => {
    const connection = await connect();
    const exports = redisLeaseStore(connection, { namespace: 'exports' });
    await redisLeaseStore(connection).acquire('t/ann', 'a', { limit: 1, ttlMs: 60_000 });
    expect(await exports.acquire('t/ann', 'b', { limit: 1, ttlMs: 60_000 })).toEqual({ kind: 'granted' });
    expect(() => redisLeaseStore(connection, { namespace: 'a b' })).toThrow('"a b"');
    expect(() => redisLeaseStore(connection, { keyGraceMs: -1 })).toThrow('keyGraceMs is -1');
    await connection.close();
  });
});

describeNeeding('redis', 'leases in a Redis Cluster of three', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await RedisClusterServers.start();
  });
  afterAll(() => cluster.close());

  leaseStoreContract('Redis Cluster', async () => {
    const connection = await RedisConnection.open({ url: cluster.url, prefix: `p${++opened}` });
    const pass = (ms: number) => sleep(ms + 10);
    return { store: redisLeaseStore(connection), pass, isTimeless: false, close: () => connection.close() };
  });
});
