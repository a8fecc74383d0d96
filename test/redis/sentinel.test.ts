import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { redisServerPath } from '../../scripts/debian.ts';
import { RedisConnection } from '../../src/redis/connection.ts';
import { openRedis } from '../../src/redis/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { Program } from '../support/program.ts';
import { RedisServer, until } from '../support/redis.ts';

/** A Sentinel that watches one primary, and decides alone. */
async function sentinelOf(primary: RedisServer): Promise<string> {
  // Only to have a port that is free.
  await using place = await RedisServer.start();
  const { port } = place;
  await place.kill();
  const file = path.join(primary.directory, 'sentinel.conf');
  writeFileSync(
    file,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${primary.directory}`,
      `sentinel monitor hub 127.0.0.1 ${primary.port} 1`,
      'sentinel down-after-milliseconds hub 500',
      'sentinel failover-timeout hub 2000',
    ].join('\n'),
  );
  const program = new Program(redisServerPath()!, [file, '--sentinel']);
  await program.says(/\+monitor master hub/);
  return `redis+sentinel://127.0.0.1:1,127.0.0.1:${port}/hub`;
}

describeNeeding('redis', 'behind Sentinel', () => {
  test('the primary is found by its name, and so is the one that takes its place', async () => {
    const primary = await RedisServer.start();
    onTestFinished(() => primary.close());
    const replica = await RedisServer.start({ replicaOf: primary });
    onTestFinished(() => replica.close());
    const url = await sentinelOf(primary);
    const facts: string[] = [];
    const store = await openRedis({ url, durability: 'replicated', observe: ({ kind }) => facts.push(kind) });
    onTestFinished(() => store.close());
    const set = (value: string) => store.connection.call('SET', ['failover', value]);
    await set('before');
    await until(async () => (await replica.call('GET', 'failover')) === 'before');
    await primary.kill();
    await until(() =>
      set('after').then(
        () => true,
        () => false,
      ),
    );
    expect(await replica.call('GET', 'failover')).toBe('after');
    expect(facts).toContain('redis-lost');
    expect(facts).toContain('redis-back');
  });

  test('sentinels that are away, and an address that is none, are told', async () => {
    const away = RedisConnection.open({ url: 'redis+sentinel://127.0.0.1:1/hub' });
    await expect(away).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/^Redis at "hub" of Sentinel cannot be reached: .*sentinel/i),
    });
    for (const url of ['redis+sentinel://127.0.0.1:26379', 'redis+sentinel:///hub', 'redis+sentinel://a:b:c/hub'])
      await expect(RedisConnection.open({ url })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(RedisConnection.open({ url: 'redis+sentinel://u:secret@/hub' })).rejects.not.toThrow('secret');
  });
});
