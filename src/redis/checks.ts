import { HubError } from '../errors.ts';
import type { RedisConnection } from './connection.ts';

/**
 * What "kept" means. `stored`: in the log of the Redis that took it (AOF). `replicated`: a replica has it, too.
 * `none`: in the memory of Redis, and gone when that restarts.
 */
export type RedisDurability = 'none' | 'stored' | 'replicated';

const leastVersion = [7, 0];

/**
 * Refuses a Redis that cannot keep what it is told to, and says how to set it up. Throws `unavailable`. Resolves to what
 * could be better.
 */
export async function checkServer(connection: RedisConnection, durability: RedisDurability): Promise<string[]> {
  const advice: string[] = [];
  for (const info of await connection.info()) {
    const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
    const refuse = (what: string): never => {
      throw new HubError('unavailable', `Redis at ${connection.settings.place} ${what}`);
    };
    const version = value('redis_version');
    if (isOlder(version)) refuse(`is version ${version}; ${leastVersion.join('.')} or newer is needed`);
    if (value('role') === 'slave')
      refuse(`is a replica of ${value('master_host')}:${value('master_port')}; give the address of its primary`);
    const policy = value('maxmemory_policy');
    if (policy !== '' && policy !== 'noeviction')
      refuse(
        `may throw away what it keeps when it is full (maxmemory-policy ${policy}). Set it right with ` +
          '"redis-cli CONFIG SET maxmemory-policy noeviction", and in redis.conf.',
      );
    if (durability === 'none') continue;
    if (value('aof_enabled') === '0')
      refuse(
        `keeps no log (appendonly no): a restart would lose commands that were accepted. Set it with "redis-cli CONFIG ` +
          `SET appendonly yes", and in redis.conf; or accept the loss by name: redisDurability "none" (--redis-durability none).`,
      );
    if (durability === 'replicated' && !hasReplica(info))
      advice.push('no replica is connected: until one is, every write that waits for a replica fails');
  }
  if (durability !== 'none' && (await connection.config('appendfsync')) === 'no')
    advice.push(
      'appendfsync is "no": a crash of its machine may lose half a minute of what was accepted; use "everysec"',
    );
  return advice;
}

/** Refuses a Redis without replica, where the start itself has to write to one. Throws `unavailable`. */
export async function checkReplica(connection: RedisConnection): Promise<void> {
  if ((await connection.info()).every(hasReplica)) return;
  throw new HubError(
    'unavailable',
    `Redis at ${connection.settings.place} has no replica, and redisDurability "replicated" makes each write wait for one. ` +
      'Connect one ("redis-cli REPLICAOF <host> <port>" at the replica), or use "stored".',
  );
}

const hasReplica = (info: string): boolean => /^connected_slaves:[1-9]/m.test(info);

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < leastVersion[0]! || (major === leastVersion[0] && minor < leastVersion[1]!);
}
