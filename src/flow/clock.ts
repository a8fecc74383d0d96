/** Where the core takes its time from, so that tests can bring their own. */
export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back, whatever happens to the wall clock. */
  monotonic(): number;
  /** Calls `run` once after `ms`; the returned function lets go. A pending timer does not keep the process alive. */
  after(ms: number, run: () => void): () => void;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    // setTimeout overflows above 2^31-1 and then fires at once; nothing here waits 24 days on one timer.
    const timer = setTimeout(run, Math.min(ms, 2 ** 31 - 1));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
