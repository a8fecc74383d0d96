import { afterAll, beforeAll } from 'vitest';
import { RedisConnection } from '../../src/redis/connection.ts';
import { openRedisEventLog } from '../../src/redis/redis-event-log.ts';
import { RedisSubscriber } from '../../src/redis/subscriber.ts';
import { eventLogContract } from '../contracts/event-log.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';

let server: RedisServer;
let opened = 0;

describeNeeding('redis', 'events in Redis', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());

  eventLogContract(
    'Redis',
    async ({ ringEvents, ringBytes, maxChannels } = {}) => {
      const connection = await RedisConnection.open({ url: server.url, prefix: `c${++opened}` });
      const subscriber = new RedisSubscriber(connection);
      const log = await openRedisEventLog({
        connection,
        subscriber,
        keepVolatile: 'always',
        maxEvents: ringEvents,
        maxEventBytes: ringBytes,
        maxChannels,
        // One part only, so that limits are exact and wake-ups of several channels come together.
        shards: 1,
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
});
