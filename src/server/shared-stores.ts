import { memoryCommandStore } from '../hub/index.ts';
import { checkReplica } from '../redis/checks.ts';
import { openBullMqEngine, openRedis } from '../redis/index.ts';
import { openSharedClock } from '../redis/shared-clock.ts';
import { sharedSecret } from '../redis/shared-secret.ts';
import type { Observe } from './facts.ts';
import type { ResolvedOptions } from './options.ts';
import type { Parts } from './parts.ts';
import type { Stores } from './stores.ts';

/** What several nodes keep together in one Redis. Loaded only where there is one. */
export async function openShared(
  { role, taskEngine: engine, redisPrefix: prefix, redisDurability: durability }: ResolvedOptions,
  url: string,
  parts: Parts,
  observe: Observe,
): Promise<Stores> {
  const store = parts.add('redis', await openRedis({ url, prefix, durability, observe }), (each) => each.close());
  const { commands, directory, log, leases, runs, connection } = store;
  if (durability === 'replicated') await checkReplica(connection);
  const taskEngine = engine === 'bullmq' ? await openBullMqEngine(connection) : store.taskEngine;
  // A worker is no node: it holds no devices, and leaves their commands to those who do.
  if (role === 'worker') return { log, commands: memoryCommandStore(), runs, taskEngine, leases };
  const clock = parts.add('shared clock', await openSharedClock(connection), (each) => each.close());
  return {
    log,
    commands,
    runs,
    taskEngine,
    leases,
    shared: { directory, clock, secret: () => sharedSecret(connection) },
  };
}
