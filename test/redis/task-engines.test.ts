import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { openBullMqEngine } from '../../src/redis/bullmq-engine.ts';
import { openRedis } from '../../src/redis/index.ts';
import { redisTaskEngine } from '../../src/redis/redis-task-engine.ts';
import { defineTask, Tasks, type TasksOptions } from '../../src/tasks/index.ts';
import { taskEngineContract } from '../contracts/task-engine.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer, until } from '../support/redis.ts';

let count = 0;

describeNeeding('redis', 'on one server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());

  taskEngineContract('hints over Redis', async () => {
    const redis = await openRedis({ url: server.url, prefix: `engine-${count++}` });
    return {
      store: redis.runs,
      engine: async () => redisTaskEngine(redis.connection, redis.subscriber, { pollMs: 300 }),
      close: () => redis.close(),
    };
  });

  taskEngineContract('BullMQ', async () => {
    const prefix = `engine-${count++}`;
    const redis = await openRedis({ url: server.url, prefix });
    const client = server.client();
    return {
      store: redis.runs,
      engine: () => openBullMqEngine(redis.connection, { pollMs: 300 }),
      told: (hints) => until(async () => (await client.zcard(`${prefix}:{bullmq}:runs:prioritized`)) === hints),
      async close() {
        client.disconnect();
        await redis.close();
      },
    };
  });

  /** A node whose runs come by BullMQ alone: the store is looked at once a minute. */
  async function nodeBy(url: string, prefix: string, options: Partial<TasksOptions> = {}) {
    const redis = await openRedis({ url, prefix });
    onTestFinished(() => redis.close());
    const engine = await openBullMqEngine(redis.connection, { pollMs: 60_000 });
    const log = memoryEventLog();
    const tasks = new Tasks({ tasks: [echo], log, store: redis.runs, engine, ...options });
    onTestFinished(() => tasks.close());
    await tasks.start();
    return { tasks, redis };
  }
  const keysOf = async (prefix: string) =>
    ((await server.call('KEYS', `${prefix}:{bullmq}:runs:*`)) as string[]).map((key) => key.split(':runs:')[1]!);

  test('BullMQ itself brings runs: due ones, delayed ones, and those that failed; no job is left behind', async () => {
    const prefix = `engine-${count++}`;
    const { tasks } = await nodeBy(server.url, prefix);
    const handles = [
      await tasks.trigger(echo, { n: 1 }),
      await tasks.trigger(echo, { n: 2 }, { delayMs: 500 }),
      await tasks.trigger(echo, { n: -3 }),
    ];
    expect(await Promise.all(handles.map((handle) => handle.result()))).toEqual([1, 2, -3]);
    await until(
      async () => !(await keysOf(prefix)).some((key) => /^(active|wait|delayed|prioritized|[0-9a-f-]{36})/.test(key)),
    );
    const keys = await keysOf(prefix);
    expect(keys.filter((key) => /^(completed|failed|stalled)$/.test(key))).toEqual([]);
  });

  test('a run that a closing node gives back is brought to the next one by BullMQ', async () => {
    const prefix = `engine-${count++}`;
    const started = Promise.withResolvers<void>();
    const waiting = defineTask({
      id: 'waiting',
      input: z.object({}),
      async run(_, ctx) {
        if (ctx.attempt > 1) return ctx.attempt;
        started.resolve();
        return new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
      },
    });
    const a = await nodeBy(server.url, prefix, { tasks: [waiting] });
    const handle = await a.tasks.trigger(waiting, {});
    await started.promise;
    const b = await nodeBy(server.url, prefix, { tasks: [waiting] });
    await a.tasks.close();
    expect(await (await b.tasks.get(handle.id)).result()).toBe(2);
  });

  test('what BullMQ has lost is found in the store', async () => {
    const prefix = `engine-${count++}`;
    const redis = await openRedis({ url: server.url, prefix });
    onTestFinished(() => redis.close());
    const log = memoryEventLog();
    const open = async (work: boolean) => {
      const engine = await openBullMqEngine(redis.connection, { pollMs: 300 });
      const tasks = new Tasks({ tasks: [echo], log, store: redis.runs, engine, work, concurrency: 5 });
      onTestFinished(() => tasks.close());
      await tasks.start();
      return tasks;
    };
    const caller = await open(false);
    const handles = await Promise.all(Array.from({ length: 50 }, (_, n) => caller.trigger(echo, { n })));
    await until(async () => (await keysOf(prefix)).length > 50);
    const keys = (await server.call('KEYS', `${prefix}:{bullmq}:*`)) as string[];
    await server.call('DEL', ...keys);
    await open(true);
    await Promise.all(handles.map((handle) => handle.result()));
  });

  test('Redis goes and comes back: runs are brought as before, and closing while it is away has an end', async () => {
    const prefix = `engine-${count++}`;
    const own = await RedisServer.start();
    onTestFinished(() => own.close());
    const { tasks } = await nodeBy(own.url, prefix);
    expect(await (await tasks.trigger(echo, { n: 1 })).result()).toBe(1);
    await own.restart();
    await until(() =>
      tasks
        .trigger(echo, { n: 2 })
        .then(
          (handle) => handle.result(),
          () => 0,
        )
        .then((n) => n === 2),
    );
    await own.kill();
    await tasks.close();
  });

  test('without its package the start says how to install it', async () => {
    const redis = await openRedis({ url: server.url, prefix: `engine-${count++}` });
    onTestFinished(() => redis.close());
    const missing = Object.assign(new Error("Cannot find package 'bullmq'"), { code: 'ERR_MODULE_NOT_FOUND' });
    await expect(openBullMqEngine(redis.connection, {}, () => Promise.reject(missing))).rejects.toThrow(
      'npm install bullmq@6',
    );
  });

  test('on a Redis Cluster, too', async () => {
    const cluster = await RedisClusterServers.start();
    onTestFinished(() => cluster.close());
    const { tasks } = await nodeBy(cluster.url, `engine-${count++}`);
    const handles = await Promise.all(Array.from({ length: 20 }, (_, n) => tasks.trigger(echo, { n })));
    await Promise.all(handles.map((handle) => handle.result()));
  });
});

/** Gives back what it gets; what is below zero it first fails at. */
const echo = defineTask({
  id: 'echo',
  input: z.object({ n: z.number() }),
  retry: { attempts: 2, minMs: 50, maxMs: 50 },
  run({ n }, ctx) {
    if (n < 0 && ctx.attempt === 1) throw new Error('not yet');
    return n;
  },
});
