import { expect, test } from 'vitest';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';

describeNeeding('redis', 'the servers that tests start', () => {
  test('one keeps its log over a kill, and loses it when it is told to', async () => {
    await using server = await RedisServer.start({ settings: { appendfsync: 'always' } });
    await server.call('SET', 'a', '1');
    await server.restart();
    expect(await server.call('GET', 'a')).toBe('1');
    await server.restart({ empty: true });
    expect(await server.call('GET', 'a')).toBeNull();
  });

  test('a replica follows, and can be promoted', async () => {
    await using primary = await RedisServer.start();
    await using replica = await RedisServer.start({ replicaOf: primary });
    const client = primary.client();
    await client.set('a', '1');
    expect(await client.wait(1, 5000)).toBe(1);
    client.disconnect();
    await primary.kill();
    await replica.call('REPLICAOF', 'NO', 'ONE');
    expect(await replica.call('GET', 'a')).toBe('1');
  });

  test('three make a cluster', async () => {
    const cluster = await RedisClusterServers.start();
    try {
      expect(String(await cluster.servers[2]!.call('CLUSTER', 'INFO'))).toContain('cluster_known_nodes:3');
      expect(String(await cluster.servers[2]!.call('CLUSTER', 'INFO'))).toContain('cluster_slots_ok:16384');
    } finally {
      await cluster.close();
    }
  });
});
