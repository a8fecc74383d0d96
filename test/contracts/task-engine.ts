import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { EventLog } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import {
  defineTask,
  type RunStore,
  type Task,
  type TaskEngine,
  Tasks,
  type TasksOptions,
} from '../../src/tasks/index.ts';
import { until } from '../support/redis.ts';
import { newRun } from './run-store.ts';

/** One store of runs, and the engine of each of the nodes that share it. */
export interface EngineWorld {
  readonly store: RunStore;
  /** The engine of a further node. */
  engine(): Promise<TaskEngine>;
  /** Resolves once what was hinted so far would be brought in its order. Default: it is at once. */
  told?(hints: number): Promise<void>;
  close(): Promise<void>;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What every `TaskEngine` has to do. `open` makes a world without runs; its stores are looked into every 300 ms. */
export function taskEngineContract(name: string, open: () => Promise<EngineWorld>): void {
  describe(`TaskEngine: ${name}`, () => {
    const closers: (() => Promise<unknown>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0).reverse()) await close();
    });

    async function opened() {
      const world = await open();
      const log: EventLog = memoryEventLog();
      closers.push(() => world.close());
      const node = async (tasks: readonly Task[], options: Partial<TasksOptions> = {}) => {
        const engine = await world.engine();
        const all = new Tasks({ tasks, log, store: world.store, engine, leaseMs: 1500, ...options });
        closers.push(() => all.close());
        await all.start();
        return all;
      };
      return { ...world, node };
    }

    /** Writes down what is done; `waits` lets the first one wait until it is let go. */
    function recorder(id = 'resize') {
      const done: { n: number; node: string; attempt: number; atMs: number }[] = [];
      const gate = Promise.withResolvers<void>();
      let active = 0;
      const recorded = { done, most: 0, letGo: () => gate.resolve() };
      const of = (node: string): Task =>
        defineTask({
          id,
          input: z.object({ n: z.number() }),
          retry: { attempts: 2, minMs: 50, maxMs: 50 },
          async run({ n }, ctx) {
            recorded.most = Math.max(recorded.most, ++active);
            done.push({ n, node, attempt: ctx.attempt, atMs: Date.now() });
            try {
              if (n === -1) await gate.promise;
              else if (n === -2 && ctx.attempt === 1) throw new Error('not yet');
              else await sleep(2);
            } finally {
              active--;
            }
          },
        });
      return Object.assign(recorded, { of, order: () => done.map(({ n }) => n) });
    }

    test('runs are brought to one of the nodes, once each', async () => {
      const { node } = await opened();
      const work = recorder();
      const nodes = await Promise.all(['a', 'b', 'c'].map((name) => node([work.of(name)], { concurrency: 4 })));
      const handles = await Promise.all(
        Array.from({ length: 60 }, (_, n) => nodes[n % 3]!.trigger('resize', { n } as never)),
      );
      await Promise.all(handles.map((handle) => handle.result()));
      expect(work.order().sort((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, n) => n));
    });

    test('a delayed run comes after its time, and holds up none that is due', async () => {
      const { node, store } = await opened();
      const work = recorder();
      const tasks = await node([work.of('a')], { concurrency: 1 });
      const later = await tasks.trigger('resize', { n: 1 } as never, { delayMs: 700 });
      const now = await tasks.trigger('resize', { n: 2 } as never);
      await Promise.all([later.result(), now.result()]);
      expect(work.order()).toEqual([2, 1]);
      const { dueAtMs } = (await store.get('default', later.id))!;
      expect(work.done[1]!.atMs).toBeGreaterThanOrEqual(dueAtMs);
    });

    test('a run that failed comes again', async () => {
      const { node } = await opened();
      const work = recorder();
      const tasks = await node([work.of('a')]);
      await (await tasks.trigger('resize', { n: -2 } as never)).result();
      expect(work.done.map(({ attempt }) => attempt)).toEqual([1, 2]);
    });

    test('among the runs that wait the higher priority comes first, then the older one', async () => {
      const { node, told } = await opened();
      const work = recorder();
      const tasks = await node([work.of('a')], { concurrency: 1 });
      const first = await tasks.trigger('resize', { n: -1 } as never);
      await until(() => work.done.length === 1);
      const handles = [first];
      for (const [n, priority] of [-100, 0, 10, 0, 100].entries()) {
        handles.push(await tasks.trigger('resize', { n } as never, { priority }));
        await told?.(n + 1);
      }
      work.letGo();
      await Promise.all(handles.map((handle) => handle.result()));
      expect(work.order()).toEqual([-1, 4, 2, 1, 3, 0]);
    });

    test('never more runs are done at once than a node takes', async () => {
      const { node, store } = await opened();
      const work = recorder();
      // Some are found in the store, some are brought.
      for (let n = 0; n < 20; n++)
        await store.add(newRun({ input: `{"n":${n}}`, dueAtMs: Date.now() }), { nowMs: Date.now(), maxQueued: 100 });
      const tasks = await node([work.of('a')], { concurrency: 3 });
      const handles = await Promise.all(
        Array.from({ length: 40 }, (_, n) => tasks.trigger('resize', { n: 20 + n } as never)),
      );
      await Promise.all(handles.map((handle) => handle.result()));
      await until(() => work.done.length === 60);
      expect(work.most).toBe(3);
    });

    test('nodes with other tasks leave a run to those that know its task', async () => {
      const { node } = await opened();
      const [one, two] = [recorder('one'), recorder('two')];
      const a = await node([one.of('a')]);
      const b = await node([two.of('b')]);
      const handles = await Promise.all(
        Array.from({ length: 20 }, (_, n) =>
          n % 2 ? b.trigger('two', { n } as never) : a.trigger('one', { n } as never),
        ),
      );
      await Promise.all(handles.map((handle) => handle.result()));
      expect([one.done.length, two.done.length]).toEqual([10, 10]);
    });

    test('a run that nobody hinted at is found in the store', async () => {
      const { node, store } = await opened();
      const work = recorder();
      await node([work.of('a')]);
      const run = newRun({ id: randomUUID(), input: '{"n":7}', dueAtMs: Date.now() });
      await store.add(run, { nowMs: Date.now(), maxQueued: 100 });
      await until(async () => (await store.get('default', run.id))?.state === 'succeeded');
      expect(work.order()).toEqual([7]);
    });

    test('a run whose worker is gone goes on with another one once the claim has run out', async () => {
      const { node, store } = await opened();
      const work = recorder();
      const nowMs = Date.now();
      const run = newRun({ id: randomUUID(), input: '{"n":1}', dueAtMs: nowMs });
      await store.add(run, { nowMs, maxQueued: 100 });
      const lost = { worker: 'gone', tasks: ['resize'], limit: 1, nowMs, untilMs: nowMs + 1500, maxCrashes: 10 };
      expect((await store.claim(lost)).runs).toHaveLength(1);
      await node([work.of('a')]);
      await until(async () => (await store.get('default', run.id))?.state === 'succeeded');
      expect(work.done).toMatchObject([{ n: 1, attempt: 2 }]);
      expect(work.done[0]!.atMs).toBeGreaterThanOrEqual(nowMs + 1500);
    });

    test('what is stopped brings no more; runs under way end, and the rest goes to others', async () => {
      const { node, store } = await opened();
      const work = recorder();
      const a = await node([work.of('a')], { concurrency: 2 });
      const held = await a.trigger('resize', { n: -1 } as never);
      await until(() => work.done.length === 1);
      const caller = await node([work.of('caller')], { work: false });
      const drained = a.drain({ timeoutMs: 20_000 });
      const rest = await Promise.all(Array.from({ length: 5 }, (_, n) => caller.trigger('resize', { n } as never)));
      await sleep(700); // twice as long as the store is not looked at
      expect(work.order()).toEqual([-1]);
      work.letGo();
      await drained;
      expect((await store.get('default', held.id))?.state).toBe('succeeded');
      await node([work.of('b')]);
      await Promise.all(rest.map((handle) => handle.result()));
      expect(work.done.filter(({ node: name }) => name === 'b')).toHaveLength(5);
    });

    test('a run that is given back goes on with another node', async () => {
      const { node } = await opened();
      const work = recorder();
      const [a, b] = [await node([work.of('a')]), await node([work.of('b')], { work: false })];
      const handle = await b.trigger('resize', { n: -1 } as never);
      await until(() => work.done.length === 1);
      const closed = a.close();
      await node([work.of('c')]);
      work.letGo();
      await closed;
      await handle.result();
      expect(['succeeded']).toContain((await handle.snapshot()).state);
    });
  });
}
