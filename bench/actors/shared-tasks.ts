// No-op tasks on a Redis that writes its log, as several nodes share it: brought by our own hints, and by BullMQ.

import { openBullMqEngine, openRedis } from '../../src/redis/index.ts';
import { RedisServer } from '../../test/support/redis.ts';
import { actor } from '../actor.ts';
import { type NoOpTasks, noOpTasks } from '../no-op-tasks.ts';

type Engine = 'own' | 'bullmq';

const server = await RedisServer.start();
process.once('exit', () => process.kill(server.pid, 'SIGKILL'));
const opened = new Map<Engine, Promise<NoOpTasks>>();

async function open(engine: Engine): Promise<NoOpTasks> {
  const { log, runs: store, taskEngine, connection } = await openRedis({ url: server.url, prefix: engine });
  return noOpTasks({ log, store, engine: engine === 'own' ? taskEngine : await openBullMqEngine(connection) });
}

function tasksBy(engine: Engine): Promise<NoOpTasks> {
  let tasks = opened.get(engine);
  if (!tasks) {
    tasks = open(engine);
    opened.set(engine, tasks);
  }
  return tasks;
}

export const verbs = actor({
  async runs({ engine, ...load }: { engine: Engine; seconds: number; atOnce: number }) {
    return (await tasksBy(engine)).runs(load);
  },
  async starts({ engine, ...load }: { engine: Engine; seconds: number }) {
    return (await tasksBy(engine)).starts(load);
  },
});
export type SharedTasksVerbs = typeof verbs;
