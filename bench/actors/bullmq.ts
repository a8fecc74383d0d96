// Bare BullMQ: no-op jobs on a Redis that writes its log, without records, events or limits of anybody's own.
import { createRequire } from 'node:module';
import { RedisServer } from '../../test/support/redis.ts';
import { actor } from '../actor.ts';
import { closedLoop } from '../load.ts';

interface BullMq {
  Queue: new (name: string, options: object) => { add(name: string, data: object, options: object): Promise<unknown> };
  Worker: new (
    name: string,
    process: (job: { data: { n: number } }) => Promise<void>,
    options: object,
  ) => { on(event: 'completed', listener: (job: { data: { n: number } }) => void): unknown };
}

// The package says types for another module system than its own.
const { Queue, Worker } = createRequire(import.meta.url)('bullmq') as BullMq;
const server = await RedisServer.start();
process.once('exit', () => process.kill(server.pid, 'SIGKILL'));
const connection = { host: '127.0.0.1', port: server.port };
const ended = new Map<number, () => void>();
const started = new Map<number, () => void>();
const queues = new Map<number, InstanceType<BullMq['Queue']>>();
let next = 0;

function queueOf(concurrency: number): InstanceType<BullMq['Queue']> {
  let queue = queues.get(concurrency);
  if (!queue) {
    const name = `bench-${concurrency}`;
    queue = new Queue(name, { connection });
    queues.set(concurrency, queue);
    const worker = new Worker(
      name,
      async ({ data: { n } }) => {
        started.get(n)?.();
        started.delete(n);
      },
      { connection, concurrency },
    );
    worker.on('completed', ({ data: { n } }) => {
      ended.get(n)?.();
      ended.delete(n);
    });
  }
  return queue;
}

export const verbs = actor({
  runs({ seconds, atOnce, concurrency }: { seconds: number; atOnce: number; concurrency: number }) {
    const queue = queueOf(concurrency);
    return closedLoop(atOnce, seconds, async () => {
      const n = next++;
      const end = new Promise<void>((resolve) => ended.set(n, resolve));
      await queue.add('noop', { n }, { removeOnComplete: true });
      await end;
    });
  },
  starts({ seconds }: { seconds: number }) {
    const queue = queueOf(50);
    return closedLoop(1, seconds, async () => {
      const n = next++;
      const start = new Promise<void>((resolve) => started.set(n, resolve));
      await queue.add('noop', { n }, { removeOnComplete: true });
      await start;
    });
  },
});
export type BullMqVerbs = typeof verbs;
