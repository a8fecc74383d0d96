import { afterAll, beforeAll } from 'vitest';
import { RedisConnection } from '../../src/redis/connection.ts';
import { openRedisEventLog } from '../../src/redis/redis-event-log.ts';
import { RedisSubscriber } from '../../src/redis/subscriber.ts';
import { eventLogContract } from '../contracts/event-log.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';

let opened = 0;

/** One part only on one server, so that limits are exact and wake-ups of several channels come together. */
const contract = (title: string, url: () => string, shards: number): void =>
  eventLogContract(
    title,
    async ({ ringEvents, ringBytes, maxChannels } = {}) => {
      const connection = await RedisConnection.open({ url: url(), prefix: `c${++opened}` });
      const subscriber = new RedisSubscriber(connection);
      const log = await openRedisEventLog({
        connection,
        subscriber,
        keepVolatile: 'always',
        maxEvents: ringEvents,
        maxEventBytes: ringBytes,
        maxChannels,
        shards,
      });
      return {
        log,
        async close() {
          await log.close();
          subscriber.close();
          await connection.close();
        },
      };
    },
    { isShared: true },
  );

describeNeeding('redis', 'events in Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());
  contract('Redis', () => server.url, 1);
});

describeNeeding('redis', 'events in a Redis Cluster of three', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await RedisClusterServers.start();
  });
  afterAll(() => cluster.close());
  contract('Redis Cluster', () => cluster.url, 8);
});
