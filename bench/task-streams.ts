import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { BetterSseVerbs } from './actors/better-sse.ts';
import type { RedisVerbs } from './actors/redis.ts';
import type { TaskNodeVerbs } from './actors/task-node.ts';
import type { WatchersVerbs } from './actors/watchers.ts';
import { type Actor, type Bench, beside, type Contender, takeTurns } from './harness.ts';
import { settled } from './sse.ts';

const perSecond = 200;
const bytes = 100;

/**
 * What a run tells, on its way to a reader in another process: each event on the disk before it is seen, beside better-sse,
 * which keeps nothing. Then all of a long run from the start, and runs whose process is killed.
 */
export async function taskStreams(bench: Bench): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-bench-'));
  try {
    // Claims have to run out, which takes their time; the processor is free meanwhile.
    const takeover = await takenOver(bench);
    const node = await bench.start<TaskNodeVerbs>('task-node');
    const http = await node.call('openSqlite', { directory: path.join(folder, 'streams') });
    await emitToReader(bench, node, http);
    await replay(bench, node, http);
    await node.stop();
    const restart = await restarted(bench, path.join(folder, 'crash'));
    bench.report(`until ${runsAtCrash} runs of a killed process go on, by its restart`, 's', restart);
    bench.report(
      `until ${runsAtCrash} runs of a killed worker go on at another one, over Redis`,
      's',
      await takeover.seconds,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function emitToReader(bench: Bench, node: Actor<TaskNodeVerbs>, http: string): Promise<void> {
  const contenders: Record<string, Contender> = {};
  const add = async (name: string, address: string, at: string, tell: (seconds: number) => Promise<unknown>) => {
    const reader = await bench.start<WatchersVerbs>('watchers');
    await reader.call('open', { address, path: at, count: 1 });
    contenders[name] = async (seconds) => {
      await reader.call('begin');
      await tell(seconds);
      const { p50Ms, p99Ms } = await settled(name, reader, seconds * perSecond);
      return { p50Ms, p99Ms };
    };
  };
  const [id] = await node.call('hold', { count: 1 });
  await add('signalbox', http, `/v1/tasks/${id}/events`, (seconds) =>
    node.call('tell', { id: id!, perSecond, seconds, bytes }),
  );
  if (bench.hasPeers) {
    const peer = await bench.start<BetterSseVerbs>('better-sse');
    await add('better-sse', await peer.call('serve'), '/', (seconds) =>
      peer.call('broadcast', { perSecond, seconds, bytes }),
    );
  }
  const turns = bench.isQuick ? { rounds: 2, seconds: 1, warmUpSeconds: 0.5 } : { rounds: 5, seconds: 3 };
  const { signalbox, ...peers } = await takeTurns(contenders, turns);
  for (const [metric, number] of [
    ['p50', 'p50Ms'],
    ['p99', 'p99Ms'],
  ] as const)
    bench.report(
      `${metric} from emit to a reader, ${perSecond} events/s`,
      'ms',
      signalbox![number]!,
      beside(peers, number),
    );
}

const replayed = 100_000;

async function replay(bench: Bench, node: Actor<TaskNodeVerbs>, http: string): Promise<void> {
  const [id] = await node.call('hold', { count: 1 });
  await node.call('tellAll', { id: id!, count: replayed });
  const reader = await bench.start<WatchersVerbs>('watchers');
  await reader.call('begin');
  await reader.call('open', { address: http, path: `/v1/tasks/${id}/events`, count: 1 });
  const { seconds } = await settled('replay', reader, replayed);
  bench.report(`replay of ${replayed.toLocaleString('en')} events to one reader`, 's', seconds);
  bench.report('events replayed per second', '1/s', replayed / seconds);
}

const runsAtCrash = 50;

/** The time from the kill of a process over SQLite until its runs have begun again in the next one, in s. */
async function restarted(bench: Bench, directory: string): Promise<number> {
  const first = await bench.start<TaskNodeVerbs>('task-node');
  await first.call('openSqlite', { directory });
  await first.call('hold', { count: runsAtCrash });
  const killedAt = performance.now();
  await first.kill();
  const second = await bench.start<TaskNodeVerbs>('task-node');
  await second.call('openSqlite', { directory });
  await second.call('started', { count: runsAtCrash });
  return (performance.now() - killedAt) / 1000;
}

/** The time from the kill of a worker over Redis until its runs have begun again at one that was there, in s. */
async function takenOver(bench: Bench): Promise<{ readonly seconds: Promise<number> }> {
  const redis = await bench.start<RedisVerbs>('redis');
  const url = await redis.call('open');
  const [first, second] = [
    await bench.start<TaskNodeVerbs>('task-node'),
    await bench.start<TaskNodeVerbs>('task-node'),
  ];
  await first.call('openRedis', { url });
  await first.call('hold', { count: runsAtCrash });
  await second.call('openRedis', { url });
  const killedAt = performance.now();
  await first.kill();
  return {
    seconds: second.call('started', { count: runsAtCrash }).then(() => (performance.now() - killedAt) / 1000),
  };
}
