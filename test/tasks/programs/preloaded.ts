// Run with `--import`: its tasks say whether what was imported there is there for them, too.
import { z } from 'zod';
import { memoryEventLog } from '../../../src/events/memory-event-log.ts';
import { defineTask, Tasks } from '../../../src/tasks/index.ts';

const run = (): string => String((globalThis as { preloaded?: string }).preloaded);
const shared = { input: z.object({}), module: import.meta.url, run } as const;
const tasks = (['inline', 'thread', 'process'] as const).map((isolation) =>
  defineTask({ ...shared, id: isolation, isolation }),
);

if (process.argv[2] === 'go') {
  await using all = new Tasks({ tasks, log: memoryEventLog() });
  await all.start();
  for (const task of tasks) console.log(task.id, await (await all.trigger(task, {})).result());
}
