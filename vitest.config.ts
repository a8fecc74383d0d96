import { defineConfig } from 'vitest/config';

const common = {
  // Long enough for a noisy machine with two cores that does something else beside it, too: these only end what hangs.
  testTimeout: 120_000,
  hookTimeout: 120_000,
  teardownTimeout: 30_000,
  // A test that passes the second time has not passed.
  retry: 0,
  expect: { poll: { timeout: 60_000, interval: 20 } },
};

/** Suites that start processes or a browser: one file at a time, after the others, so that they have the machine. */
const wholeMachine = ['test/cli/**', 'test/e2e/**', 'test/browser/chromium/**', 'test/interop/**', 'test/examples/**'];

export default defineConfig({
  test: {
    // An error that nobody caught fails the run.
    dangerouslyIgnoreUnhandledErrors: false,
    projects: [
      {
        test: { ...common, name: 'house', include: ['test/house/**/*.test.ts'], sequence: { groupOrder: 0 } },
      },
      {
        test: {
          ...common,
          name: 'rooms',
          include: ['test/**/*.test.ts'],
          exclude: ['test/house/**', 'test/faults/**', ...wholeMachine],
          // One more than most machines have cores: many wait for a Redis that is away, or for a clock.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: 'whole',
          include: wholeMachine.map((folder) => `${folder}/*.test.ts`),
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
      // Two files of faults at a time, and `churn`, the first by name, beside them: it takes three minutes and little of
      // the machine.
      ...[
        { name: 'churn', include: ['test/faults/soak.test.ts'] },
        { name: 'faults', include: ['test/faults/*.test.ts'], exclude: ['test/faults/soak.test.ts'] },
      ].map((files) => ({
        test: {
          ...common,
          ...files,
          maxWorkers: 3,
          sequence: { groupOrder: 3 },
        },
      })),
    ],
  },
});
