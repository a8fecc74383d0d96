import type { DirectoryVerbs } from './actors/directory.ts';
import type { RedisVerbs } from './actors/redis.ts';
import { type Bench, during } from './harness.ts';

/**
 * What the directory does for a million devices (50,000 if quick) on 20 nodes, against a real Redis: how many operations
 * a second it takes, what each costs, and what Redis keeps for each client. The figures of docs/scaling.md.
 */
export async function simulateCluster(bench: Bench): Promise<void> {
  const [clients, nodes] = [bench.isQuick ? 50_000 : 1_000_000, 20];
  const redis = await bench.start<RedisVerbs>('redis');
  const url = await redis.call('open');
  const directory = await bench.start<DirectoryVerbs>('directory');
  await directory.call('open', { redis: url, nodes, clients });
  const empty = (await redis.call('usage')).rssBytes;
  bench.say(`${clients} clients on ${nodes} nodes`);
  const measure = async (
    title: string,
    verb: 'claim' | 'move' | 'find' | 'check' | 'renew' | 'release',
    count: number,
  ) => {
    const before = await redis.call('usage');
    const { result: seconds, cpuUs } = await during({ directory }, () => directory.call(verb, count));
    const after = await redis.call('usage');
    bench.report(`${title}: per second`, '1/s', count / seconds);
    bench.report(`${title}: CPU of Redis each`, 'us', (after.cpuUs - before.cpuUs) / count);
    bench.report(`${title}: CPU of the nodes each`, 'us', cpuUs.directory! / count);
  };
  await measure('a client connects', 'claim', clients);
  bench.report('kept by Redis for each client', 'bytes', ((await redis.call('usage')).rssBytes - empty) / clients);
  await measure('a client is looked up', 'find', clients);
  await measure('a client is checked, 500 in one go', 'check', clients);
  await measure('a client moves to another node', 'move', clients);
  await measure('a node renews its lease', 'renew', 2000);
  await measure('a client leaves', 'release', clients);
}
