import { onTestFailed } from 'vitest';
import { seededRandom } from '../../../src/testing/index.ts';

/** Set by `npm run test:faults -- --full`; the CI size otherwise. */
export const isFull = process.env.SIGNALBOX_FAULTS === 'full';

export const size = (ci: number, full: number): number => (isFull ? full : ci);

/** Chance that can be had again: `npm run test:faults -- --seed=N`. A failing test says its seed. */
export function dice(): { random: () => number; seed: number; between(least: number, most: number): number } {
  const seed = Number(process.env.SIGNALBOX_SEED) || Math.floor(Math.random() * 1e9);
  onTestFailed(() => void process.stderr.write(`seed ${seed}; again with: npm run test:faults -- --seed=${seed}\n`));
  const random = seededRandom(seed);
  return { random, seed, between: (least, most) => Math.floor(least + random() * (most - least + 1)) };
}

/** What was measured, for whoever reads along; no test hangs on it. */
export const figures = (text: string): void => void process.stderr.write(`${text}\n`);

export const megabytes = (bytes: number): number => Math.round(bytes / 2 ** 20);

const at = (some: readonly number[], part: number): number =>
  some.toSorted((a, b) => a - b)[Math.floor(some.length * part)]!;
export const median = (some: readonly number[]): number => at(some, 0.5);
export const p99 = (some: readonly number[]): number => at(some, 0.99);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until it holds; throws, naming `what`, when it does not within `withinMs`. */
export async function eventually(what: string | (() => string), holds: () => unknown, withinMs = 60_000) {
  const until = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > until)
      throw new Error(`not within ${withinMs} ms: ${typeof what === 'string' ? what : what()}`);
    await sleep(20);
  }
}
