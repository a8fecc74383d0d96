// A worker of tasks in a process of its own, over Redis: options as JSON in the first argument.
import { openBullMqEngine, openRedis } from '../../../src/redis/index.ts';
import { Tasks } from '../../../src/tasks/index.ts';
import { stepping, steppingInThread } from './task-definitions.ts';

interface WorkerOptions {
  readonly url: string;
  readonly prefix: string;
  readonly node: string;
  readonly engine: 'own' | 'bullmq';
}

const { url, prefix, node, engine } = JSON.parse(process.argv[2] ?? '{}') as WorkerOptions;
const redis = await openRedis({ url, prefix });
const tasks = new Tasks({
  tasks: [stepping, steppingInThread],
  log: redis.log,
  store: redis.runs,
  engine: engine === 'bullmq' ? await openBullMqEngine(redis.connection) : redis.taskEngine,
  concurrency: 4,
  node,
});
await tasks.start();
process.stdout.write(`${JSON.stringify({ ready: node })}\n`);
process.stdin.once('end', () => process.exit(2)).resume(); // ends with the test, if that should die
