import { type Clock, systemClock } from '../flow/clock.ts';
import type { Run } from './run.ts';

/** What an engine works for. */
export interface EngineWorker {
  /** Runs that it takes at once. */
  readonly concurrency: number;
  /** Whether runs of this task are done here. */
  knows(task: string): boolean;
  /** Takes what is due, as far as there is room. Resolves to the Unix ms when to look again; undefined: when hinted. */
  poll(): Promise<number | undefined>;
  /** Takes one run, if it is there to be taken, once there is room, and resolves when this attempt has ended. */
  run(runId: string): Promise<void>;
}

/**
 * Brings runs that are due to workers. It only ever hints: what may run is decided by claiming it in the store, so that
 * a hint may come late, twice, or to several workers, and costs no more than time.
 */
export interface TaskEngine {
  /** Whether a run may begin where it was triggered, without being hinted. Default: no, as the engine has its own order. */
  readonly mayBeginAtOnce?: boolean | undefined;
  /** A run is (or will be) due; without one: look again. */
  hint(run?: Pick<Run, 'id' | 'task' | 'epoch' | 'dueAtMs' | 'priority'>): void;
  /** Begins to bring work to this process. */
  start(worker: EngineWorker): void;
  /** Brings no more work. Runs under way go on, and hints are still told to others. May be called twice. */
  stop(): Promise<void>;
  /** Stops, and lets go of everything once the last run has ended. */
  close(): Promise<void>;
}

export interface PollingEngineOptions {
  /** The store is looked at at least this often, in ms, in case a hint was lost. Default: 5000. */
  readonly pollMs?: number | undefined;
  readonly clock?: Clock | undefined;
}

/** The embedded engine: it looks into the store when something was hinted, when the next run is due, and now and then. */
export function pollingEngine({ pollMs = 5000, clock = systemClock }: PollingEngineOptions = {}): TaskEngine {
  let worker: EngineWorker | undefined;
  let looking: Promise<void> | undefined;
  let isHinted = false;
  let letGo: () => void = () => undefined;

  const look = async (to: EngineWorker): Promise<void> => {
    let nextMs: number | undefined;
    do {
      isHinted = false;
      nextMs = await to.poll();
    } while (isHinted && worker);
    looking = undefined;
    if (!worker) return;
    const waitMs = nextMs === undefined ? pollMs : Math.max(1, Math.min(pollMs, nextMs - clock.now()));
    letGo();
    letGo = clock.after(waitMs, hint);
  };
  const hint = (): void => {
    isHinted = true;
    if (worker) looking ??= look(worker);
  };
  const stop = async (): Promise<void> => {
    worker = undefined;
    letGo();
    await looking;
  };
  return {
    mayBeginAtOnce: true,
    hint,
    start(given) {
      worker = given;
      hint();
    },
    stop,
    close: stop,
  };
}
