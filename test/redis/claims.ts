import type { CommandOwner, Hold } from '../../src/hub/command-store.ts';
import type { RedisConnection } from '../../src/redis/connection.ts';
import { shardOf, shardPrefix } from '../../src/redis/keys.ts';

/** Writes a hold into Redis as the directory does, without one. */
export function claimDirectly(connection: RedisConnection) {
  return async ({ tenant, clientId }: CommandOwner, hold: Hold | undefined): Promise<void> => {
    const base = shardPrefix(connection.prefix, shardOf(`${tenant}/${clientId}`));
    const key = `${base}c:${tenant}/${clientId}`;
    if (!hold) return void (await connection.call('HSET', [key, '@r', '1']));
    await connection.call('SET', [`${base}lease:${hold.instance}`, '1']);
    await connection.call('HSET', [key, '@i', hold.instance, '@e', hold.epoch]);
    await connection.call('HDEL', [key, '@r']);
  };
}
