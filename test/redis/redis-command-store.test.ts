import { afterAll, beforeAll } from 'vitest';
import { openRedis } from '../../src/redis/index.ts';
import { commandStoreContract } from '../contracts/command-store.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';
import { claimDirectly } from './claims.ts';

let count = 0;

const openAt = async (url: string) => {
  const { connection, commands, close } = await openRedis({ url, prefix: `test-${count++}` });
  return { store: commands, claim: claimDirectly(connection), close };
};

describeNeeding('redis', 'on one server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());
  commandStoreContract('Redis', () => openAt(server.url));
});

describeNeeding('redis', 'on a cluster of three', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await RedisClusterServers.start();
  });
  afterAll(() => cluster.close());
  commandStoreContract('Redis Cluster', () => openAt(cluster.url));
});

describeNeeding('redis', 'with a replica that confirms', () => {
  let primary: RedisServer;
  let replica: RedisServer;
  beforeAll(async () => {
    primary = await RedisServer.start();
    replica = await RedisServer.start({ replicaOf: primary });
  });
  afterAll(async () => {
    await replica.close();
    await primary.close();
  });
  commandStoreContract('Redis, replicated', async () => {
    const options = { url: primary.url, prefix: `test-${count++}`, durability: 'replicated' } as const;
    const { connection, commands, close } = await openRedis(options);
    return { store: commands, claim: claimDirectly(connection), close };
  });
});
