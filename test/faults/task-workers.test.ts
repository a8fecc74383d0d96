import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { channelKey } from '../../src/events/channels.ts';
import { openBullMqEngine, openRedis } from '../../src/redis/index.ts';
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

  type Engine = 'own' | 'bullmq';
  const engines: Engine[] = ['own', 'bullmq'];

  /** A process that triggers and watches, and others that work. */
  async function workers(kind: Engine) {
    const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-workers-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const ledger = path.join(folder, 'ledger.txt');
    writeFileSync(ledger, '');
    const prefix = `workers-${Date.now()}`;
    const redis = await openRedis({ url: server.url, prefix });
    onTestFinished(() => redis.close());
    const caller = new Tasks({
      tasks: [stepping, steppingInThread],
      log: redis.log,
      store: redis.runs,
      engine: kind === 'bullmq' ? await openBullMqEngine(redis.connection) : redis.taskEngine,
      work: false,
    });
    await caller.start();
    onTestFinished(() => caller.close());
    let named = 0;
    const start = async (): Promise<Child> => {
      const node = `w${named++}`;
      const worker = new Child('task-worker-process', { url: server.url, prefix, node, engine: kind });
      await worker.says('ready');
      return worker;
    };
    return { redis, caller, ledger, start };
  }

  test.each(engines)('what a killed worker did starts again within ten seconds (engine: %s)', async (kind) => {
    const { caller, ledger, start } = await workers(kind);
    const doomed = await start();
    const handle = await caller.trigger(stepping, { n: 1, steps: 1000, stepMs: 50, ledger });
    const started: { attempt: number; atMs: number }[] = [];
    let killedAtMs = 0;
    for await (const { event } of handle.events()) {
      if (event.type === 'data' && killedAtMs === 0) {
        await start();
        killedAtMs = Date.now();
        await doomed.kill();
      }
      if (event.type === 'hub.attempt') {
        started.push({ attempt: JSON.parse(event.dataJson()).attempt, atMs: event.atMs });
        break;
      }
    }
    await handle.cancel();
    const tookMs = started[0]!.atMs - killedAtMs;
    figures(`workers (${kind}): a killed one's run began again after ${tookMs} ms`);
    expect(started).toMatchObject([{ attempt: 2 }]);
    // Due are 10 s; the machine may be busy with other things.
    expect(tookMs).toBeLessThan(20_000);
  });

  test.each(engines)(
    'a killed or halted worker’s runs go on with another one within seconds; each ends once, and the fenced one is not heard (engine: %s)',
    async (kind) => {
      const { between } = dice();
      const { redis, caller, ledger, start } = await workers(kind);
      const running = await Promise.all([start(), start(), start()]);
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
        const worker = running[i]!;
        if (fault % 2 === 0) await worker.kill();
        else {
          // It stands still for longer than its claims last, and then goes on as if nothing had been.
          worker.signal('SIGSTOP');
          halted.push(worker);
        }
        running[i] = await start();
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
