export * from '../../src/browser/index.ts';
