import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { StreamLeases } from '../../src/leases/index.ts';
import { RedisConnection } from '../../src/redis/connection.ts';
import { redisLeaseStore } from '../../src/redis/redis-lease-store.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { Child, killAll } from './support/child.ts';
import type { LeaseLine, LeaseProcessOptions } from './support/lease-process.ts';
import { readLedger } from './support/ledger.ts';
import { dice, eventually, size, sleep } from './support/sizes.ts';

afterEach(killAll);

const limit = 3;
const ttlMs = 800;

/** Most leases that were in use at one instant, by what their holders wrote: each from its first use to its last. */
function mostAtOnce(ledgers: readonly LeaseLine[][]): { most: number; leases: number; lost: number } {
  const uses = new Map<string, { from: number; to: number }>();
  const lines = ledgers.flat();
  for (const { kind, lease, at } of lines) {
    if (kind !== 'use') continue;
    const use = uses.get(lease);
    if (use) use.to = Math.max(use.to, at);
    else uses.set(lease, { from: at, to: at });
  }
  const steps = [...uses.values()].flatMap(({ from, to }) => [
    { at: from, by: 1 },
    { at: to, by: -1 },
  ]);
  // At the same instant, who begins counts before who ends.
  steps.sort((a, b) => a.at - b.at || b.by - a.by);
  let count = 0;
  let most = 0;
  for (const { by } of steps) {
    count += by;
    most = Math.max(most, count);
  }
  return { most, leases: uses.size, lost: lines.filter(({ kind }) => kind === 'lost').length };
}

describeNeeding('redis', 'leases over processes', () => {
  test('never more than the limit, over kills, stops longer than a lease lasts, and wrong clocks', async () => {
    const { random, seed, between } = dice();
    await using server = await RedisServer.start();
    const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-leases-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const ledgers: string[] = [];
    const start = async (n: number): Promise<Child> => {
      const ledger = path.join(folder, `${ledgers.length}.jsonl`);
      ledgers.push(ledger);
      const options: LeaseProcessOptions = {
        redis: server.url,
        ledger,
        name: `process-${ledgers.length}`,
        limit,
        ttlMs,
        skewMs: [0, 3600_000, -3600_000, 86_400_000][n]!,
        seed: seed + ledgers.length,
      };
      const child = new Child('lease-process', options);
      await child.says('ready');
      return child;
    };
    const children = await Promise.all([0, 1, 2, 3].map(start));
    const faults = size(40, 400);
    let fault = 0;
    // Two hands do harm at the same time, each to two of the four.
    const hand = async (first: number): Promise<void> => {
      while (fault++ < faults) {
        await sleep(between(50, 300));
        const n = first + between(0, 1);
        if (random() < 0.5) {
          await children[n]!.kill();
          children[n] = await start(n);
        } else {
          children[n]!.signal('SIGSTOP');
          await sleep(between(ttlMs / 4, ttlMs * 2));
          children[n]!.signal('SIGCONT');
        }
      }
    };
    await Promise.all([hand(0), hand(2)]);
    const told = () => mostAtOnce(ledgers.map((ledger) => readLedger<LeaseLine>(ledger)));
    // Chance may have stopped only such as held nothing.
    for (let tries = 0; told().lost === 0 && tries < 20; tries++) {
      const child = children[tries % children.length]!;
      child.signal('SIGSTOP');
      await sleep(ttlMs * 2);
      child.signal('SIGCONT');
      await sleep(300);
    }
    await killAll();

    const { most, leases, lost } = told();
    expect(most).toBeLessThanOrEqual(limit);
    // The test has tried what it says: all places were in use at once, and some were lost in a stop.
    expect(most).toBe(limit);
    expect(leases).toBeGreaterThan(20);
    expect(lost).toBeGreaterThan(0);

    // What the dead held comes back by its time.
    const connection = await RedisConnection.open({ url: server.url });
    onTestFinished(() => connection.close());
    const after = new StreamLeases({ store: redisLeaseStore(connection), limit });
    await eventually('the places of the dead are free', async () => (await after.count('ann')) === 0, 20_000);
  });
});
