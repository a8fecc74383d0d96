import { HubError } from '../errors.ts';
import type { HeldLease, LeaseStore } from '../leases/lease-store.ts';
import { type RedisConnection, script } from './connection.ts';

export interface RedisLeaseOptions {
  /** Stands before the key of each user, behind the prefix of all keys. Default: `stream_leases`. */
  readonly namespace?: string | undefined;
  /** A user's key outlives the last lease in it by so many ms. Default: 60,000. */
  readonly keyGraceMs?: number | undefined;
}

/**
 * Keeps leases in Redis: one sorted set for each user, of lease ids by the time at which they end. That time is the
 * server's, so that the clocks of the nodes do not matter. The connection stays its owner's.
 */
export function redisLeaseStore(connection: RedisConnection, options: RedisLeaseOptions = {}): LeaseStore {
  const { namespace = 'stream_leases', keyGraceMs = 60_000 } = options;
  if (!/^[A-Za-z0-9_.:-]{1,64}$/.test(namespace))
    throw new HubError('invalid-argument', `lease namespace "${namespace}" is not 1 to 64 of A-Z a-z 0-9 _ . : -`);
  if (!(keyGraceMs >= 0)) throw new HubError('invalid-argument', `keyGraceMs is ${keyGraceMs}, it must be 0 or more`);
  const ask = (key: string, ...args: (string | number)[]) =>
    connection.run(leaseScript, [`${connection.prefix}:${namespace}:${key}`], args);
  return {
    async acquire(key, id, { limit, ttlMs }) {
      const [isGranted, held, retryAfterMs] = (await ask(key, 'acquire', id, ttlMs, keyGraceMs, limit)) as number[];
      return isGranted ? { kind: 'granted' } : { kind: 'refused', held: held!, retryAfterMs: retryAfterMs! };
    },
    refresh: async (key, id, ttlMs) => (await ask(key, 'refresh', id, ttlMs, keyGraceMs)) === 1,
    release: async (key, id) => (await ask(key, 'release', id)) === 1,
    async list(key) {
      const found = (await ask(key, 'list')) as (Buffer | number)[];
      const leases: HeldLease[] = [];
      for (let i = 0; i < found.length; i += 2) leases.push({ id: String(found[i]), endsInMs: Number(found[i + 1]) });
      return leases;
    },
    async close() {
      // The connection is its owner's.
    },
  };
}

/**
 * KEYS: the user's set. ARGV: what is asked, then what it needs. A refresh of a lease that has ended changes nothing, an
 * acquisition that is repeated takes no second place: after a lost answer all of it can be asked again.
 */
const leaseScript = script(`
local key, verb, id = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)

local function hold(ttl, grace)
  redis.call('ZADD', key, now + ttl, id)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  redis.call('PEXPIREAT', key, math.ceil(tonumber(last[2]) + grace))
end

if verb == 'acquire' then
  local limit, held = tonumber(ARGV[5]), redis.call('ZCARD', key)
  if held >= limit and not redis.call('ZSCORE', key, id) then
    local first = redis.call('ZRANGE', key, held - limit, held - limit, 'WITHSCORES')
    return {0, held, math.ceil(tonumber(first[2]) - now)}
  end
  hold(tonumber(ARGV[3]), tonumber(ARGV[4]))
  return {1}
elseif verb == 'refresh' then
  if not redis.call('ZSCORE', key, id) then return 0 end
  hold(tonumber(ARGV[3]), tonumber(ARGV[4]))
  return 1
elseif verb == 'release' then
  return redis.call('ZREM', key, id)
elseif verb == 'list' then
  local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 2, #found, 2 do found[i] = math.ceil(tonumber(found[i]) - now) end
  return found
end
return redis.error_reply('ERR leases know no ' .. verb)
`);
