export type { RedisDurability } from './checks.ts';
export { RedisConnection } from './connection.ts';
export type { RedisConnectionOptions } from './connection-options.ts';
export type { RedisEventLogOptions } from './event-log-options.ts';
export type { RedisFact } from './facts.ts';
export { openRedis, type RedisOptions, type RedisStore } from './open-redis.ts';
export { openRedisEventLog } from './redis-event-log.ts';
export { type RedisLeaseOptions, redisLeaseStore } from './redis-lease-store.ts';
export { RedisSubscriber } from './subscriber.ts';
