export * from '../../src/leases/index.ts';
