import type { BullMqVerbs } from './actors/bullmq.ts';
import type { SharedTasksVerbs } from './actors/shared-tasks.ts';
import type { SqliteVerbs } from './actors/sqlite.ts';
import type { TasksVerbs } from './actors/tasks.ts';
import { type Bench, type Contender, during, takeTurns } from './harness.ts';
import { taskStreams } from './task-streams.ts';

/**
 * No-op tasks, each kept, run and told, beside jobs of bare BullMQ in the same run. Ours are synced to the disk before
 * they count, and have records, events and fencing; BullMQ's Redis syncs its log once a second. So does ours, where several
 * nodes share the runs; they are brought by our own hints, and by BullMQ. Then what runs tell, and what becomes of them when
 * their process is killed.
 */
export async function tasks(bench: Bench): Promise<void> {
  await noOps(bench);
  await bench.stopAll();
  await taskStreams(bench);
}

async function noOps(bench: Bench): Promise<void> {
  const atOnce = 500;
  const ours = await bench.start<TasksVerbs>('tasks');
  const sqlite = await bench.start<SqliteVerbs>('sqlite');
  const shared = await bench.start<SharedTasksVerbs>('shared-tasks');
  const bull = bench.hasPeers ? await bench.start<BullMqVerbs>('bullmq') : undefined;
  const contenders: Record<string, Contender> = {
    async ours(seconds) {
      const { result, cpuUs } = await during({ ours }, () => ours.call('runs', { seconds, atOnce }));
      const start = await ours.call('starts', { seconds: seconds / 2 });
      const { operations } = result;
      return {
        perSecond: operations / result.seconds,
        cpu: cpuUs.ours! / operations,
        p50: start.p50Ms,
        p99: start.p99Ms,
      };
    },
  };
  contenders.write = async (seconds) => {
    const { p50Ms: p50, p99Ms: p99 } = await sqlite.call('transactions', { seconds: seconds / 4, bytes: 100 });
    return { p50, p99 };
  };
  for (const engine of ['own', 'bullmq'] as const)
    contenders[`shared-${engine}`] = async (seconds) => {
      const { result, cpuUs } = await during({ shared }, () => shared.call('runs', { engine, seconds, atOnce }));
      const start = await shared.call('starts', { engine, seconds: seconds / 2 });
      return {
        perSecond: result.operations / result.seconds,
        cpu: cpuUs.shared! / result.operations,
        p50: start.p50Ms,
        p99: start.p99Ms,
      };
    };
  const concurrencies = [10, 50, 200];
  if (bull) {
    for (const concurrency of concurrencies)
      contenders[`bull-${concurrency}`] = async (seconds) => {
        const load = await bull.call('runs', { seconds, atOnce, concurrency });
        return { perSecond: load.operations / load.seconds };
      };
    contenders.bullStart = async (seconds) => {
      const { p50Ms: p50, p99Ms: p99 } = await bull.call('starts', { seconds: seconds / 2 });
      return { p50, p99 };
    };
  }
  const turns = bench.isQuick ? { rounds: 2, seconds: 0.8, warmUpSeconds: 1 } : { rounds: 5, seconds: 3 };
  const found = await takeTurns(contenders, turns);
  const best = Math.max(...concurrencies.map((concurrency) => found[`bull-${concurrency}`]?.perSecond ?? 0));
  const beside = (value: number | undefined): Record<string, number> => (value ? { 'bare BullMQ': value } : {});
  bench.report(`tasks per second, ${atOnce} at once`, '1/s', found.ours!.perSecond!, beside(best));
  bench.report('CPU per task', 'us', found.ours!.cpu!);
  for (const quantile of ['p50', 'p99'] as const)
    bench.report(`${quantile} from trigger to start`, 'ms', found.ours![quantile]!, {
      ...beside(found.bullStart?.[quantile]),
      'one synced write of bare better-sqlite3': found.write![quantile]!,
    });
  for (const [engine, how] of [
    ['own', 'over Redis'],
    ['bullmq', 'over Redis, brought by BullMQ'],
  ] as const) {
    const { perSecond, cpu, p50, p99 } = found[`shared-${engine}`]!;
    bench.report(`tasks per second, ${atOnce} at once, ${how}`, '1/s', perSecond!, beside(best));
    bench.report(`CPU per task, ${how}`, 'us', cpu!);
    bench.report(`p50 from trigger to start, ${how}`, 'ms', p50!, beside(found.bullStart?.p50));
    bench.report(`p99 from trigger to start, ${how}`, 'ms', p99!, beside(found.bullStart?.p99));
  }
}
