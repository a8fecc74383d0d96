import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { openRedis } from '../../src/redis/index.ts';
import { redisRunStore } from '../../src/redis/redis-run-store.ts';
import { defineTask, Tasks } from '../../src/tasks/index.ts';
import { runStoreContract } from '../contracts/run-store.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisClusterServers, RedisServer } from '../support/redis.ts';

let count = 0;

describeNeeding('redis', 'on one server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());

  runStoreContract('Redis', async () => {
    const { connection, close } = await openRedis({ url: server.url, prefix: `runs-${count++}` });
    return { store: redisRunStore(connection, { usesServerTime: false }), close };
  });

  test('two workers share the runs: each is done once, whatever their clocks say, and a cancel reaches across', async () => {
    const prefix = `runs-${count++}`;
    const log = memoryEventLog();
    const done: string[] = [];
    const open = async (node: string) => {
      const redis = await openRedis({ url: server.url, prefix });
      onTestFinished(() => redis.close());
      const task = defineTask({
        id: 'shared',
        input: z.object({ n: z.number() }),
        async run({ n }, ctx) {
          if (n === -1)
            await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
          done.push(`${node} ${n}`);
          return n;
        },
      });
      // The second one's clock is an hour ahead: it must not take that for the end of the others' claims.
      const hour = node === 'b' ? 3_600_000 : 0;
      const clock = {
        now: () => Date.now() + hour,
        monotonic: () => performance.now(),
        after(ms: number, run: () => void) {
          const timer = setTimeout(run, ms);
          timer.unref();
          return () => clearTimeout(timer);
        },
      };
      const tasks = new Tasks({
        tasks: [task],
        log,
        store: redis.runs,
        engine: redis.taskEngine,
        node,
        concurrency: 5,
        leaseMs: 2000,
        clock,
      });
      await tasks.start();
      onTestFinished(() => tasks.close());
      return { tasks, task };
    };
    const [a, b] = [await open('a'), await open('b')];
    const handles = await Promise.all(
      Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? a : b).tasks.trigger('shared', { n } as never)),
    );
    expect(await Promise.all(handles.map((handle) => handle.result()))).toEqual(
      Array.from({ length: 40 }, (_, n) => n),
    );
    expect(done).toHaveLength(40);
    const waiting = await a.tasks.trigger('shared', { n: -1 } as never);
    for await (const { event } of waiting.events()) if (event.type === 'task.started') break;
    await b.tasks.cancel(waiting.id, 'from the other node');
    await expect(waiting.result()).rejects.toThrow('from the other node');
  });
});

describeNeeding('redis', 'on a cluster of three', () => {
  let cluster: RedisClusterServers;
  beforeAll(async () => {
    cluster = await RedisClusterServers.start();
  });
  afterAll(() => cluster.close());

  runStoreContract('Redis Cluster', async () => {
    const { connection, close } = await openRedis({ url: cluster.url, prefix: `runs-${count++}` });
    return { store: redisRunStore(connection, { usesServerTime: false }), close };
  });
});
