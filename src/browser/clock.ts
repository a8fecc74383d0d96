/** Where the watcher takes its time from, so that tests can bring their own. */
export interface WatchClock {
  /** Calls `run` once after `ms`; the returned function lets go. */
  after(ms: number, run: () => void): () => void;
}

export const browserClock: WatchClock = {
  after(ms, run) {
    const timer = setTimeout(run, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
};
