// Nodes as the directory sees them: many clients claimed, looked up, checked and released, and no devices behind them.
import type { ClientClaim, ClientKey } from '../../src/cluster/index.ts';
import { openRedis, type RedisStore } from '../../src/redis/index.ts';
import { actor } from '../actor.ts';

let store: RedisStore;
let instances: string[] = [];
let epochs = new Float64Array(0);
/** Calls under way at once: as those of many nodes would be. */
const atOnce = 512;

const key = (index: number): ClientKey => ({ tenant: 'default', clientId: `meter-${index}` });
const claimOf = (index: number): ClientClaim => ({
  ...key(index),
  labels: { site: `site-${index % 1000}`, model: 'm7' },
  agent: 'meter/4.2.1',
  peer: `10.${index & 255}.${(index >> 8) & 255}.7:49152`,
});

async function each(
  count: number,
  step: number,
  run: (from: number, to: number) => Promise<unknown>,
  lanes = atOnce,
): Promise<number> {
  const begun = performance.now();
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const from = next;
      next += step;
      await run(from, Math.min(count, from + step));
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return (performance.now() - begun) / 1000;
}

export const verbs = actor({
  async open({ redis, nodes, clients }: { redis: string; nodes: number; clients: number }): Promise<void> {
    store = await openRedis({ url: redis, rememberedClients: clients });
    instances = Array.from({ length: nodes }, (_, index) => `node-${index}-1`);
    epochs = new Float64Array(clients);
    for (const [index, instance] of instances.entries())
      await store.directory.join(
        {
          id: `node-${index}`,
          instance,
          address: `10.0.0.${index}:50051`,
          version: 'bench',
          startedAtMs: Date.now(),
          load: { sessions: 0, isDraining: false },
        },
        3_600_000,
      );
  },

  /** Every client connects. Seconds. */
  claim: (clients: number) =>
    each(clients, 1, async (index) => {
      const outcome = await store.directory.claim(instances[index % instances.length]!, claimOf(index));
      if (outcome.kind !== 'claimed') throw new Error(`client ${index}: ${outcome.kind}`);
      epochs[index] = outcome.epoch;
    }),

  /** Each moves to the next node. */
  move: (clients: number) =>
    each(clients, 1, async (index) => {
      const outcome = await store.directory.claim(instances[(index + 1) % instances.length]!, claimOf(index));
      if (outcome.kind !== 'claimed' || outcome.epoch <= epochs[index]!) throw new Error(`client ${index} went back`);
      epochs[index] = outcome.epoch;
    }),

  /** Looked up one at a time, as by commands to clients of other nodes. */
  find: (clients: number) => each(clients, 1, (index) => store.directory.holders([key(index)])),

  /** Looked up by pages, as the nodes check what they hold. */
  check: (clients: number) =>
    each(
      clients,
      500,
      (from, to) => store.directory.holders(Array.from({ length: to - from }, (_, index) => key(from + index))),
      instances.length,
    ),

  renew: (times: number) =>
    each(times, 1, (index) =>
      store.directory.renew(instances[index % instances.length]!, { sessions: 1, isDraining: false }),
    ),

  release: (clients: number) =>
    each(clients, 1, (index) =>
      store.directory.release(instances[(index + 1) % instances.length]!, key(index), epochs[index]!),
    ),
});
export type DirectoryVerbs = typeof verbs;
