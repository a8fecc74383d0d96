export * from '../../src/redis/index.ts';
