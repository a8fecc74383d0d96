export * from '../../src/device/index.ts';
