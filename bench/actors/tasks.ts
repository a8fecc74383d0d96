// No-op tasks on the embedded store: each kept, claimed, started, settled and told, as durable as SQLite makes it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { openSqlite } from '../../src/sqlite/index.ts';
import { defineTask, Tasks } from '../../src/tasks/index.ts';
import { actor } from '../actor.ts';
import { closedLoop } from '../load.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-bench-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
const store = await openSqlite({ directory });
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
  tasks: [noop],
  log: store.log,
  store: store.runs,
  concurrency: 200,
  observe(fact) {
    if (fact.kind !== 'run-ended') return;
    ended.get(fact.runId)?.();
    ended.delete(fact.runId);
  },
});
await tasks.start();
let next = 0;

export const verbs = actor({
  /** So many at once, each from its trigger to its end. */
  runs({ seconds, atOnce }: { seconds: number; atOnce: number }) {
    return closedLoop(atOnce, seconds, async () => {
      const id = crypto.randomUUID();
      const end = new Promise<void>((resolve) => ended.set(id, resolve));
      await tasks.trigger(noop, { n: -1 }, { id });
      await end;
    });
  },
  /** One at a time, from its trigger to its start. */
  starts({ seconds }: { seconds: number }) {
    return closedLoop(1, seconds, async () => {
      const n = next++;
      const start = new Promise<void>((resolve) => started.set(n, resolve));
      await tasks.trigger(noop, { n });
      await start;
    });
  },
});
export type TasksVerbs = typeof verbs;
