import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { channelKey } from '../../src/events/channels.ts';
import { openRedis } from '../../src/redis/index.ts';
import { runChannel, Tasks } from '../../src/tasks/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { Child, killAll } from './support/child.ts';
import { dice, figures, size, sleep } from './support/sizes.ts';
import { stepping, steppingInThread } from './support/task-definitions.ts';

afterEach(killAll);

describeNeeding('redis', 'workers on several nodes', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());

  test(
    'a killed or halted worker’s runs go on with another one within seconds; each ends once, and the fenced one is not heard',
    async () => {
      const { between } = dice();
      const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-workers-'));
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
      const ledger = path.join(folder, 'ledger.txt');
      writeFileSync(ledger, '');
      const prefix = `workers-${Date.now()}`;
      const redis = await openRedis({ url: server.url, prefix });
      onTestFinished(() => redis.close());
      const definitions = [stepping, steppingInThread];
      const caller = new Tasks({
        tasks: definitions,
        log: redis.log,
        store: redis.runs,
        engine: redis.taskEngine,
        work: false,
      });
      await caller.start();
      onTestFinished(() => caller.close());

      let named = 0;
      const start = async (): Promise<Child> => {
        const worker = new Child('task-worker-process', { url: server.url, prefix, node: `w${named++}` });
        await worker.says('ready');
        return worker;
      };
      const workers = await Promise.all([start(), start(), start()]);
      const [runs, steps, faults] = [size(12, 100), 10, size(3, 40)];
      const handles = await Promise.all(
        Array.from({ length: runs }, (_, n) =>
          caller.trigger(n % 3 === 0 ? steppingInThread : stepping, { n, steps, stepMs: between(50, 250), ledger }),
        ),
      );
      const halted: Child[] = [];
      for (let fault = 0; fault < faults; fault++) {
        await sleep(between(100, 600));
        const i = between(0, 2);
        const worker = workers[i]!;
        if (fault % 2 === 0) await worker.kill();
        else {
          // It stands still for longer than its claims last, and then goes on as if nothing had been.
          worker.signal('SIGSTOP');
          halted.push(worker);
        }
        workers[i] = await start();
      }
      const startMs = performance.now();
      await sleep(9000);
      for (const worker of halted) if (!worker.hasEnded) worker.signal('SIGCONT');
      const results = await Promise.all(handles.map((handle) => handle.result()));
      figures(`workers: all ended ${Math.round(performance.now() - startMs)} ms after the last fault`);
      expect(results).toEqual(Array.from({ length: runs }, (_, n) => ({ n })));
      // What the halted ones still want to say has time to be refused.
      await sleep(500);
      const done = new Map<number, Set<number>>();
      for (const line of readFileSync(ledger, 'utf8').trim().split('\n')) {
        const [n, step] = line.split(' ').map(Number);
        done.set(n!, (done.get(n!) ?? new Set()).add(step!));
      }
      for (const [n, handle] of handles.entries()) {
        const { events } = await redis.log.read(
          channelKey('default', runChannel(handle.id)),
          { epoch: 0, seq: 0 },
          1000,
        );
        expect(events.filter(({ type }) => type === 'done')).toHaveLength(1);
        expect(events.at(-1)!.type).toBe('done');
        const attempts = events.map((event) => JSON.parse(event.dataJson()).context.attempt as number);
        // An event that was on its way when its worker was halted may come late; no more than that.
        const late = attempts.filter((attempt, i) => attempts.slice(0, i).some((before) => before > attempt)).length;
        expect(late).toBeLessThanOrEqual(halted.length);
        expect(done.get(n)?.size).toBe(steps);
      }
    },
    size(120_000, 1_200_000),
  );
});
