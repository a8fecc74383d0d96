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
  options: ResolvedOptions,
  url: string,
  parts: Parts,
  observe: Observe,
  signal?: AbortSignal,
): Promise<Stores> {
  const { role, taskEngine: engine, redisPrefix: prefix, redisDurability: durability, redisWaitMs } = options;
  const opened = await openRedis({ url, prefix, durability, connectWithinMs: redisWaitMs, signal, observe });
  const store = parts.add('redis', opened, (each) => each.close());
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
