import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';
import { openRedis } from '../../src/redis/index.ts';
import { clientDirectoryContract } from '../contracts/client-directory.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';

let count = 0;

const openTwo = async (url: string) => {
  const options = { url, prefix: `test-${count++}` };
  const [one, two] = await Promise.all([openRedis(options), openRedis(options)]);
  return {
    directory: one.directory,
    other: two.directory,
    pass: (ms: number) => sleep(ms), // leases end by the clock of Redis
    async close() {
      await one.close();
      await two.close();
    },
  };
};

describeNeeding('redis', 'on one server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());
  clientDirectoryContract('Redis', () => openTwo(server.url));
});

describeNeeding('redis', 'on a cluster of three', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await RedisClusterServers.start();
  });
  afterAll(() => cluster.close());
  clientDirectoryContract('Redis Cluster', () => openTwo(cluster.url));
});
