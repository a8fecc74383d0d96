import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { toHubError } from '../../src/errors.ts';
import { channelKey } from '../../src/events/channels.ts';
import type { EventLog, Position } from '../../src/events/event-log.ts';
import { openBullMqEngine, openRedis, type RedisStore } from '../../src/redis/index.ts';
import { defineTask, isTerminalRun, runChannel, Tasks } from '../../src/tasks/index.ts';
import { faultProxy, seededRandom } from '../../src/testing/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';
import { stalls } from '../support/stalls.ts';
import { patient, patiently } from './patient.ts';

// P14, P15 and P20 of runs over Redis: the oracle is what callers were told and what the tasks themselves wrote down.

type Engine = 'own' | 'bullmq';

/** What is kept in a channel; numbers that are not there are passed over. */
async function typesOf(log: EventLog, channel: string): Promise<string[]> {
  const types: string[] = [];
  let position: Position = { epoch: 0, seq: 0 };
  for (;;) {
    const page = await log.read(channel, position, 1000);
    types.push(...page.events.map(({ type }) => type));
    if (page.atEnd) return types;
    position = page.next;
  }
}

describeNeeding('redis', 'runs of tasks in a Redis that fails', () => {
  const started = async () => {
    // Without that setting Redis may answer up to two seconds before it writes.
    const server = await RedisServer.start({ settings: { appendfsync: 'always' } });
    onTestFinished(() => server.close());
    return server;
  };

  /** Two nodes that work, each with a connection of its own, and callers that go on through whatever happens. */
  async function world(url: string, engine: Engine, timeoutMs = 500) {
    const steps = new Map<number, number>();
    const task = defineTask({
      id: 'count',
      input: z.object({ n: z.number() }),
      async run({ n }, ctx) {
        steps.set(n, (steps.get(n) ?? 0) + 1);
        await ctx.data(n);
        return n;
      },
    });
    const redis: RedisStore[] = [];
    const nodes: Tasks[] = [];
    for (let i = 0; i < 2; i++) {
      const store = await patiently(() => openRedis({ url, prefix: 'run-faults', timeoutMs }));
      redis.push(store);
      onTestFinished(() => store.close());
      const tasks = new Tasks({
        tasks: [task],
        log: store.log,
        store: store.runs,
        engine: engine === 'bullmq' ? await openBullMqEngine(store.connection) : store.taskEngine,
        concurrency: 10,
        leaseMs: 2000,
        node: `node-${i}`,
      });
      nodes.push(tasks);
      await tasks.start();
      onTestFinished(() => tasks.close());
    }

    const accepted = new Map<number, string>();
    const refused: string[] = [];
    let slowestMs = 0;
    let next = 0;
    let isOver = false;
    /** Asks for a run until it is accepted: under one id, so that an answer that was lost makes no second one. */
    const trigger = async (n: number): Promise<void> => {
      const id = `run-${n}`;
      while (!accepted.has(n)) {
        const begunMs = performance.now();
        try {
          await nodes[n % 2]!.trigger(task, { n }, { id });
          accepted.set(n, id);
        } catch (error) {
          refused.push(toHubError(error).code);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        slowestMs = Math.max(slowestMs, performance.now() - begunMs);
      }
    };
    const callers = Array.from({ length: 5 }, async () => {
      while (!isOver) await trigger(next++);
    });
    return {
      accepted,
      refused,
      get slowestMs() {
        return slowestMs;
      },
      /** Callers stop, and everything that was accepted has ended once, was done, and is told once. */
      async settle() {
        isOver = true;
        await Promise.all(callers);
        const store = patient(redis[0]!.runs);
        const open = async () => {
          const runs = await store.list({ tenant: 'default', limit: 20_000 });
          return runs.filter(({ state }) => !isTerminalRun(state)).length;
        };
        await until(async () => (await open()) === 0);
        await until(async () => (await store.unannounced(10)).length === 0);
        const runs = await store.list({ tenant: 'default', limit: 20_000 });
        expect(new Set(runs.map(({ id }) => id))).toEqual(new Set(accepted.values()));
        for (const run of runs) {
          expect(run).toMatchObject({ state: 'succeeded', result: String(JSON.parse(run.input).n) });
          const key = channelKey('default', runChannel(run.id));
          const types = await patiently(() => typesOf(redis[1]!.log, key));
          expect(types.filter((type) => type === 'done')).toHaveLength(1);
          expect(types.at(-1)).toBe('done');
        }
        for (const n of accepted.keys()) expect(steps.get(n)).toBeGreaterThanOrEqual(1);
        return runs;
      },
    };
  }

  const outages: [string, (server: RedisServer) => Promise<unknown>, (server: RedisServer) => Promise<unknown>][] = [
    ['killed', (server) => server.kill(), (server) => server.restart()],
    ['stopped (SIGSTOP)', async (server) => server.freeze(), async (server) => server.thaw()],
    [
      'full',
      (server) => server.call('CONFIG', 'SET', 'maxmemory', '1'),
      (server) => server.call('CONFIG', 'SET', 'maxmemory', '0'),
    ],
    [
      'made a replica of nobody',
      (server) => server.call('REPLICAOF', '127.0.0.1', '1'),
      (server) => server.call('REPLICAOF', 'NO', 'ONE'),
    ],
  ];
  const cases = outages.flatMap((outage) => (['own', 'bullmq'] as const).map((engine) => [engine, ...outage] as const));
  test.each(cases)(
    '(engine: %s) a Redis that is %s loses no run that was accepted, and none ends twice',
    async (engine, _, harm, heal) => {
      const server = await started();
      using held = stalls();
      const told = await world(server.url, engine);
      const { accepted, refused, settle } = told;
      await until(() => accepted.size > 100);
      await harm(server);
      await until(() => refused.length > 5);
      // Longer than claims last.
      await new Promise((resolve) => setTimeout(resolve, 2500));
      await heal(server);
      const before = accepted.size;
      await until(() => accepted.size > before + 100);
      await settle();
      expect([...new Set(refused)]).toEqual(['unavailable']);
      expect(told.slowestMs).toBeLessThan(4000 + held.ms);
    },
    120_000,
  );

  test.each(['own', 'bullmq'] as const)(
    '(engine: %s) answers that are lost double no run and no end',
    async (engine) => {
      const server = await started();
      const road = await faultProxy({ target: `127.0.0.1:${server.port}`, random: seededRandom(11) });
      onTestFinished(() => road.close());
      const { accepted, settle } = await world(`redis://${road.address}`, engine, 5000);
      await until(() => accepted.size > 20);
      // Every connection breaks soon after its handshake: what was written is written, and nobody hears of it.
      road.setFaults({ down: { cutAfterBytes: [15_000, 60_000] } });
      road.cutAll();
      await until(() => road.counts.cut > 40, 60_000);
      road.setFaults({});
      await settle();
    },
    120_000,
  );
});
