import { openRedis } from '../redis/index.ts';
import { openRedisEventLog } from '../redis/redis-event-log.ts';
import { redisLeaseStore } from '../redis/redis-lease-store.ts';
import { sharedSecret } from '../redis/shared-secret.ts';
import { RedisSubscriber } from '../redis/subscriber.ts';
import { memoryRunStore } from '../tasks/index.ts';
import type { Observe } from './facts.ts';
import type { ResolvedOptions } from './options.ts';
import type { Parts } from './parts.ts';
import type { Stores } from './stores.ts';

/** What several nodes keep together in one Redis. Loaded only where there is one. */
export async function openShared(
  { redisPrefix: prefix, redisDurability: durability }: ResolvedOptions,
  url: string,
  parts: Parts,
  observe: Observe,
): Promise<Stores> {
  const store = parts.add('redis', await openRedis({ url, prefix, durability, observe }), (each) => each.close());
  const { commands, directory, connection } = store;
  const subscriber = parts.add('redis subscriber', new RedisSubscriber(connection), (each) => each.close());
  const replicas = durability === 'replicated' ? 1 : 0;
  const log = parts.add('event log', await openRedisEventLog({ connection, subscriber, replicas }), (each) =>
    each.close(),
  );
  return {
    log,
    commands,
    runs: memoryRunStore(),
    leases: redisLeaseStore(connection),
    shared: { directory, secret: () => sharedSecret(connection) },
  };
}
