export * from '../../src/opensearch/index.ts';
