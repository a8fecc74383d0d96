import { z } from 'zod';
import { defineTask, Tasks, type TasksOptions } from '../src/tasks/index.ts';
import { closedLoop, type Load } from './load.ts';

export interface NoOpTasks {
  /** So many at once, each from its trigger to its end. */
  runs(load: { seconds: number; atOnce: number }): Promise<Load>;
  /** One at a time, from its trigger to its start. */
  starts(load: { seconds: number }): Promise<Load>;
}

/** Tasks that do nothing, on whatever keeps and brings their runs; 200 at once unless told otherwise. */
export async function noOpTasks(
  on: Pick<TasksOptions, 'log' | 'store' | 'engine' | 'concurrency'>,
): Promise<NoOpTasks> {
  const ended = new Map<string, () => void>();
  const started = new Map<number, () => void>();
  const noop = defineTask({
    id: 'noop',
    input: z.object({ n: z.number() }),
    run({ n }) {
      started.get(n)?.();
      started.delete(n);
    },
  });
  const tasks = new Tasks({
    concurrency: 200,
    ...on,
    tasks: [noop],
    observe(fact) {
      if (fact.kind !== 'run-ended') return;
      ended.get(fact.runId)?.();
      ended.delete(fact.runId);
    },
  });
  await tasks.start();
  let next = 0;
  return {
    runs: ({ seconds, atOnce }) =>
      closedLoop(atOnce, seconds, async () => {
        const { id } = await tasks.trigger(noop, { n: -1 });
        // It ends after at least one more write: not before this turn is over.
        await new Promise<void>((resolve) => ended.set(id, resolve));
      }),
    starts: ({ seconds }) =>
      closedLoop(1, seconds, async () => {
        const n = next++;
        const start = new Promise<void>((resolve) => started.set(n, resolve));
        await tasks.trigger(noop, { n });
        await start;
      }),
  };
}
