// Holds places of one user in a process of its own, to be stopped and killed. Options as JSON in the first argument.

import { toHubError } from '../../../src/errors.ts';
import { systemClock } from '../../../src/flow/clock.ts';
import { type Lease, StreamLeases } from '../../../src/leases/index.ts';
import { RedisConnection } from '../../../src/redis/connection.ts';
import { redisLeaseStore } from '../../../src/redis/redis-lease-store.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { Ledger } from './ledger.ts';

export interface LeaseProcessOptions {
  readonly redis: string;
  readonly ledger: string;
  readonly name: string;
  readonly limit: number;
  readonly ttlMs: number;
  /** How wrong its clock is. */
  readonly skewMs: number;
  readonly seed: number;
}

/** `use`: the holder acted on its lease; `at` was read before it looked whether it still has it. ms of one clock for all. */
export interface LeaseLine {
  readonly kind: 'use' | 'released' | 'lost';
  readonly lease: string;
  readonly at: number;
}

const { redis, ledger: path, name, limit, ttlMs, skewMs, seed } = JSON.parse(process.argv[2]!) as LeaseProcessOptions;
const ledger = new Ledger<LeaseLine>(path);
const random = seededRandom(seed);
const clock = {
  ...systemClock,
  now: () => systemClock.now() + skewMs,
  monotonic: () => systemClock.monotonic() + Math.abs(skewMs),
};
const connection = await RedisConnection.open({ url: redis });
const leases = new StreamLeases({ store: redisLeaseStore(connection), limit, ttlMs, holder: name, clock });
const held = new Set<Lease>();
// One clock for all processes of the machine.
const now = () => Number(process.hrtime.bigint()) / 1e6;

function useAll(): void {
  for (const lease of held) {
    const at = now();
    if (lease.active) ledger.write({ kind: 'use', lease: lease.id, at });
    else {
      held.delete(lease);
      ledger.write({ kind: 'lost', lease: lease.id, at });
    }
  }
}

setInterval(useAll, 5);
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
process.stdin.once('end', () => process.exit(2)).resume(); // ends with the test, if that should die
for (;;) {
  await new Promise((resolve) => setTimeout(resolve, random() * 40));
  if (held.size > 0 && random() < 0.4) {
    const [lease] = held;
    held.delete(lease!);
    ledger.write({ kind: 'released', lease: lease!.id, at: now() });
    await lease!.release();
    continue;
  }
  try {
    const lease = await leases.acquire('ann');
    held.add(lease);
    useAll();
  } catch (error) {
    if (!['stream-limit-exceeded', 'unavailable'].includes(toHubError(error).code)) throw error;
  }
}
