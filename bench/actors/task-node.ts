// A process that does tasks: over SQLite, with HTTP for those who watch, or as a worker over Redis.
import { z } from 'zod';
import { openAuthenticator } from '../../src/auth/index.ts';
import { serveGateway } from '../../src/gateway/index.ts';
import { Hub } from '../../src/hub/index.ts';
import { openRedis } from '../../src/redis/index.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { defineTask, type TaskContext, Tasks } from '../../src/tasks/index.ts';
import { actor } from '../actor.ts';
import { machineUs, paced } from '../load.ts';

interface Held {
  readonly context: TaskContext;
  readonly release: () => void;
}

const held = new Map<string, Held>();
let onStart: () => void = () => undefined;
let tasks: Tasks;

/** Runs until it is told to end, and meanwhile tells what it is told to. */
const holding = defineTask({
  id: 'holding',
  input: z.object({}),
  run: (_, context: TaskContext) =>
    new Promise<void>((release) => {
      held.set(context.runId, { context, release });
      onStart();
    }),
});

async function started(count: number): Promise<void> {
  while (held.size < count)
    await new Promise<void>((resolve) => {
      onStart = resolve;
    });
}

export const verbs = actor({
  async openSqlite({ directory }: { directory: string }): Promise<string> {
    const store = await openSqlite({ directory, maxEvents: 200_000 });
    const { log, runs } = store;
    tasks = new Tasks({ tasks: [holding], log, store: runs });
    await tasks.start();
    const hub = new Hub({ log });
    const authenticator = openAuthenticator();
    const gateway = await serveGateway({ hub, log, tasks, authenticator, addresses: ['127.0.0.1:0'] });
    return new URL(gateway.urls[0]!).host;
  },

  async openRedis({ url }: { url: string }): Promise<void> {
    const { log, runs, taskEngine } = await openRedis({ url });
    tasks = new Tasks({ tasks: [holding], log, store: runs, engine: taskEngine });
    await tasks.start();
  },

  /** Triggers runs; gives their ids once all of them have started here. */
  async hold({ count }: { count: number }): Promise<string[]> {
    const before = held.size;
    const handles = await Promise.all(Array.from({ length: count }, () => tasks.trigger(holding, {})));
    await started(before + count);
    return handles.map(({ id }) => id);
  },

  /** Resolves once so many runs have started here, whoever triggered them. */
  started: ({ count }: { count: number }) => started(count),

  /** The run tells the time so often, by `ctx.data`. */
  tell({ id, perSecond, seconds, bytes }: { id: string; perSecond: number; seconds: number; bytes: number }) {
    const pad = 'x'.repeat(bytes);
    const { context } = held.get(id)!;
    return paced(perSecond, seconds, () => void context.data({ pad, t: machineUs() }));
  },

  /** The run tells so much and ends. */
  async tellAll({ id, count }: { id: string; count: number }): Promise<void> {
    const { context, release } = held.get(id)!;
    for (let i = 1; i <= count; i++) {
      const kept = context.data({ t: machineUs() });
      if (i % 1000 === 0 || i === count) await kept;
    }
    release();
    await (await tasks.get(id)).result();
  },
});
export type TaskNodeVerbs = typeof verbs;
