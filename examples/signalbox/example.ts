export * from '../../src/example/index.ts';
