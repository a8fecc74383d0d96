export * from '../../src/tasks/index.ts';
