export * from '../../src/sqlite/index.ts';
