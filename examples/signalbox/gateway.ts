export * from '../../src/gateway/index.ts';
