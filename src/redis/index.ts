export type { RedisDurability } from './checks.ts';
export type { RedisConnectionOptions } from './connection-options.ts';
export type { RedisFact } from './facts.ts';
export { openRedis, type RedisOptions, type RedisStore } from './open-redis.ts';
