import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** What a load generator saw. */
export interface Load {
  operations: number;
  seconds: number;
  p50Ms: number;
  p99Ms: number;
}

/** Runs `operate(0..lanes-1)` over and over, one operation in each lane at a time, for so many seconds. */
export async function closedLoop(
  lanes: number,
  seconds: number,
  operate: (lane: number) => Promise<unknown>,
): Promise<Load> {
  const histogram = createHistogram();
  const begun = performance.now();
  const end = begun + seconds * 1000;
  const run = async (lane: number): Promise<void> => {
    for (let from = performance.now(); from < end; ) {
      await operate(lane);
      const to = performance.now();
      note(histogram, to - from);
      from = to;
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)));
  return loadOf(histogram, begun);
}

/** Begins `perSecond` operations a second, whether or not earlier ones have ended, in each lane in turn. */
export async function openLoop(
  lanes: number,
  perSecond: number,
  seconds: number,
  operate: (lane: number) => Promise<unknown>,
): Promise<Load> {
  const histogram = createHistogram();
  const running: Promise<void>[] = [];
  const begun = performance.now();
  await paced(perSecond, seconds, (number, dueAt) => {
    // From when it was due, so that a late start counts, too.
    running.push(operate(number % lanes).then(() => note(histogram, performance.now() - dueAt)));
  });
  await Promise.all(running);
  return loadOf(histogram, begun);
}

/** Calls `each` `perSecond` times a second by the clock: what is late is made up for. */
export async function paced(
  perSecond: number,
  seconds: number,
  each: (number: number, dueAt: number) => void,
): Promise<void> {
  const begun = performance.now();
  const total = Math.round(perSecond * seconds);
  for (let number = 0; number < total; ) {
    for (; number < total; number++) {
      const dueAt = begun + (number * 1000) / perSecond;
      if (dueAt > performance.now()) break;
      each(number, dueAt);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Runs `work(0..count-1)`, at most `width` at a time. */
export async function inBatches<T>(count: number, width: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const run = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      results[index] = await work(index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, run));
  return results;
}

/** Us by the machine's own clock, the same in all processes. */
export function machineUs(): number {
  const [s, ns] = process.hrtime();
  return s * 1e6 + Math.round(ns / 1e3);
}

export function note(histogram: RecordableHistogram, ms: number): void {
  histogram.record(Math.max(1, Math.round(ms * 1e6)));
}

export function loadOf(histogram: RecordableHistogram, begun: number): Load {
  return {
    operations: histogram.count,
    seconds: (performance.now() - begun) / 1000,
    p50Ms: histogram.percentile(50) / 1e6,
    p99Ms: histogram.percentile(99) / 1e6,
  };
}
