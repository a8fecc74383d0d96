import type { Clock } from '../flow/clock.ts';

/** A clock that stands still until it is told to move. */
export interface VirtualClock extends Clock {
  /** Moves time on and runs what becomes due, in order, each at its own time; lets promises settle in between. */
  advance(ms: number): Promise<void>;
  /** Timers that are set. */
  readonly pending: number;
}

/** A clock for tests. `startMs`: Unix ms to begin at. Default: 2026-01-01. */
export function virtualClock(startMs: number = Date.UTC(2026, 0, 1)): VirtualClock {
  let elapsed = 0;
  let nextId = 0;
  const timers = new Map<number, { at: number; run: () => void }>();
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    now: () => startMs + Math.round(elapsed),
    monotonic: () => elapsed,
    after(ms, run) {
      const id = nextId++;
      timers.set(id, { at: elapsed + Math.max(0, ms), run });
      return () => timers.delete(id);
    },
    get pending() {
      return timers.size;
    },
    async advance(ms) {
      const until = elapsed + ms;
      await settle();
      for (;;) {
        let due: [number, { at: number; run: () => void }] | undefined;
        for (const entry of timers) if (entry[1].at <= until && (!due || entry[1].at < due[1].at)) due = entry;
        if (!due) break;
        timers.delete(due[0]);
        elapsed = Math.max(elapsed, due[1].at);
        due[1].run();
        await settle();
      }
      elapsed = until;
      await settle();
    },
  };
}
