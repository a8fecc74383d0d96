export * from '../../src/server/index.ts';
