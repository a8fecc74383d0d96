import { redisServerPath } from '../scripts/debian.ts';
import type { DevicesVerbs } from './actors/devices.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { NodeVerbs } from './actors/node.ts';
import type { RedisVerbs } from './actors/redis.ts';
import type { SqliteVerbs } from './actors/sqlite.ts';
import { type Bench, type Contender, during, perOperation, same, takeTurns } from './harness.ts';

/** A background of queued commands that leaves the machine room, in commands a second. */
const easy = 200;
const livePerSecond = 200;

/**
 * Queued commands over SQLite: each is stored, sent, answered, and its result stored, for 100 callers at once. Beside
 * it one row per transaction in bare better-sqlite3, as durable, and the same commands at a node over Redis. And what live
 * commands feel of it meanwhile: beside nothing else, and beside the same load at another hub of this machine, of which
 * they feel what anybody would who needs its processors. And as it is where the event loops of the hub and of the live
 * devices do not wait for a processor: on a machine with more of them.
 *
 * What they feel is to be the hub's doing, so the devices of live commands have a process of their own, as real ones do: in
 * one process with a hundred busy ones they would wait for those. And the busy ones step back: they stand for machines
 * elsewhere, which take as little processor from the hub as can be. The callers of both kinds stay in the hub's process, at its own pace.
 */
export async function queued(bench: Bench): Promise<void> {
  const bytes = 100;
  const hub = await bench.start<HubVerbs>('hub');
  const devices = await bench.start<DevicesVerbs>('devices');
  const liveDevices = await bench.start<DevicesVerbs>('devices');
  await devices.call('stepBack');
  const sqlite = await bench.start<SqliteVerbs>('sqlite');
  const { grpc } = await hub.call('open', { store: 'sqlite' });
  await devices.call('open', { address: grpc, prefix: 'queued', count: 100 });
  await liveDevices.call('open', { address: grpc, prefix: 'live', count: 20 });
  same('devices', await hub.call('peers'), 120);
  const another = await bench.start<HubVerbs>('hub');
  const { grpc: other } = await another.call('open', { store: 'sqlite' });
  await devices.call('open', { address: other, prefix: 'queued', count: 100 });
  same('devices of the other hub', await another.call('peers'), 100);

  const node = await bench.start<NodeVerbs>('node');
  const redis = redisServerPath() === undefined ? undefined : await bench.start<RedisVerbs>('redis');
  if (redis) {
    const { grpc: address } = await node.call('open', { redis: await redis.call('open'), node: 'node' });
    await devices.call('open', { address, prefix: 'shared', count: 100 });
    same('devices over Redis', await node.call('sessions'), 100);
  }

  const live = (seconds: number) =>
    hub.call('pacedCommands', { prefix: 'live', count: 20, perSecond: livePerSecond, seconds, bytes });
  const background = { prefix: 'queued', count: 100, bytes, whenOffline: 'queue' } as const;
  const loopsFirst = async (isFirst: boolean) =>
    (await hub.call('loopFirst', isFirst)) && (await liveDevices.call('loopFirst', isFirst));
  const contenders: Record<string, Contender> = {
    alone: async (seconds) => ({ ...(await live(seconds)) }),
    async easy(seconds) {
      const [latency] = await Promise.all([
        live(seconds),
        hub.call('pacedCommands', { ...background, perSecond: easy, seconds }),
      ]);
      return { ...latency };
    },
    async full(seconds) {
      const { result, cpuUs } = await during({ hub }, () =>
        Promise.all([live(seconds), hub.call('commands', { ...background, seconds })]),
      );
      const [latency, load] = result;
      const operations = load.operations + latency.operations;
      return {
        ...latency,
        perSecond: load.operations / load.seconds,
        queuedP99Ms: load.p99Ms,
        cpu: cpuUs.hub! / operations,
      };
    },
    async beside(seconds) {
      const [latency] = await Promise.all([live(seconds), another.call('commands', { ...background, seconds })]);
      return { ...latency };
    },
    async roomy(seconds) {
      await loopsFirst(true);
      const [latency] = await Promise.all([live(seconds), hub.call('commands', { ...background, seconds })]);
      await loopsFirst(false);
      return { ...latency };
    },
    async busy(seconds) {
      const [latency] = await Promise.all([
        live(seconds),
        hub.call('commands', { ...background, seconds, whenOffline: 'fail' }),
      ]);
      return { ...latency };
    },
    async one(seconds) {
      return perOperation({ cpu: sqlite }, () => sqlite.call('transactions', { seconds, bytes }));
    },
  };
  if (redis)
    contenders.redis = async (seconds) => {
      const { result, cpuUs } = await during({ node, redis }, () =>
        node.call('commands', { ...background, prefix: 'shared', seconds }),
      );
      return {
        perSecond: result.operations / result.seconds,
        p99Ms: result.p99Ms,
        cpu: cpuUs.node! / result.operations,
        redis: cpuUs.redis! / result.operations,
      };
    };
  if (!(await loopsFirst(false))) {
    delete contenders.roomy;
    bench.say('Without chrt, or the right to use it, nobody can say what a processor to spare would do.');
  }
  const turns = bench.isQuick ? { rounds: 3, seconds: 0.8, warmUpSeconds: 1.2 } : { rounds: 7, seconds: 3 };
  const { alone, easy: some, busy, beside, roomy, full, one, redis: shared } = await takeTurns(contenders, turns);
  const bare = 'bare better-sqlite3, a transaction each';
  bench.report('queued commands per second, 100 callers', '1/s', full!.perSecond!, { [bare]: one!.perSecond! });
  bench.report('p99 of queued commands', 'ms', full!.queuedP99Ms!);
  bench.report('hub CPU per command', 'us', full!.cpu!, { [bare]: one!.cpu! });
  if (shared) {
    const sqliteHub = 'a hub over SQLite';
    bench.report('over Redis: queued commands per second', '1/s', shared.perSecond!, { [sqliteHub]: full!.perSecond! });
    bench.report('over Redis: p99 of queued commands', 'ms', shared.p99Ms!, { [sqliteHub]: full!.queuedP99Ms! });
    bench.report('over Redis: CPU of the node per command', 'us', shared.cpu!, { [sqliteHub]: full!.cpu! });
    bench.report('over Redis: CPU of Redis per command', 'us', shared.redis!);
  }
  for (const [name, number] of [
    ['p50', 'p50Ms'],
    ['p99', 'p99Ms'],
  ] as const) {
    const nothing = { 'nothing else': alone![number]! };
    bench.report(`${name} of live commands, ${easy} queued/s meanwhile`, 'ms', some![number]!, nothing);
    bench.report(`${name} of live commands, 100 callers that queue meanwhile`, 'ms', full![number]!, {
      ...nothing,
      'that load at another hub': beside![number]!,
      '100 callers without store': busy![number]!,
    });
    if (roomy)
      bench.report(
        `${name} of live commands, 100 callers that queue, a processor to spare`,
        'ms',
        roomy[number]!,
        nothing,
      );
  }
}
