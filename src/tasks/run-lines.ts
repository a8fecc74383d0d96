import { Deque } from '../flow/deque.ts';
import type { Run, RunError } from './run.ts';
import { cancelledError, limitKey, overdueError, workerLostError } from './run-rules.ts';
import type { Claimed, ClaimRequest, NewRun } from './run-store.ts';

/** A run in memory. */
export type Kept = { -readonly [Key in keyof Run]: Run[Key] } & {
  /** `later` waits for its time, `blocked` for a place of its key. */
  phase: 'later' | 'ready' | 'blocked' | 'running' | 'ended';
  untilMs: number;
  isAnnounced: boolean;
};

/** The lines that runs in memory stand in: those that wait, by priority, and those that run; and who comes next. */
export class RunLines {
  readonly #ready = new Map<number, Deque<Kept>>();
  readonly #later = new Set<Kept>();
  readonly #running = new Set<Kept>();
  readonly #withDeadline = new Set<Kept>();
  /** Active runs of each limit key, in their order. */
  readonly #active = new Map<string, Set<Kept>>();
  #queued = 0;
  /** Ended ones that nobody was told of yet. */
  readonly unannounced = new Set<Kept>();

  /** Runs that wait, for whatever. */
  get queued(): number {
    return this.#queued;
  }

  /** Those that share the limit with this one, and have not ended. */
  activeOf(run: NewRun): Set<Kept> {
    const key = limitKey(run);
    if (key === undefined) return new Set();
    let set = this.#active.get(key);
    if (!set) {
      set = new Set();
      this.#active.set(key, set);
    }
    return set;
  }

  add(run: Kept): void {
    if (run.concurrency) this.activeOf(run).add(run);
    if (run.deadlineMs !== undefined) this.#withDeadline.add(run);
  }

  queue(run: Kept, dueAtMs: number, nowMs: number): void {
    run.state = 'queued';
    run.dueAtMs = dueAtMs;
    this.#enter(run, dueAtMs <= nowMs ? 'ready' : 'later');
  }

  hasRoom(run: Kept): boolean {
    if (!run.concurrency) return true;
    let count = 0;
    for (const other of this.activeOf(run)) if (other.phase === 'running') count++;
    return count < run.concurrency.limit;
  }

  start(run: Kept, nowMs: number, untilMs: number): Run {
    this.#enter(run, 'running');
    run.epoch++;
    Object.assign(run, { state: 'running', untilMs, updatedAtMs: nowMs, startedAtMs: run.startedAtMs ?? nowMs });
    return shown(run);
  }

  end(run: Kept, state: 'succeeded' | 'failed' | 'cancelled', nowMs: number, error?: RunError): void {
    const wasRunning = run.phase === 'running';
    this.#enter(run, 'ended');
    Object.assign(run, { state, error, endedAtMs: nowMs, updatedAtMs: nowMs, checkpoint: undefined });
    this.#withDeadline.delete(run);
    this.unannounced.add(run);
    const set = this.activeOf(run);
    set.delete(run);
    if (wasRunning) this.unblock(run);
    const key = limitKey(run);
    if (key !== undefined && set.size === 0) this.#active.delete(key);
  }

  /** Asks a running one to end, and ends one that waits. */
  ask(run: Kept, reason: string, nowMs: number): void {
    if (run.phase === 'running') {
      run.cancelReason ??= reason;
      run.updatedAtMs = nowMs;
    } else {
      run.cancelReason = reason;
      this.end(run, 'cancelled', nowMs, cancelledError(reason));
    }
  }

  /** Lets the next run of the same key come, as this one gives its place back. */
  unblock(run: Kept): void {
    for (const other of this.activeOf(run))
      if (other.phase === 'blocked') {
        this.#enter(other, 'ready');
        return;
      }
  }

  claim(request: ClaimRequest): Claimed {
    const { nowMs, untilMs, tasks, limit, maxCrashes, id } = request;
    const ended: Run[] = [];
    const claimed: Run[] = [];
    let nextDueMs = Number.POSITIVE_INFINITY;
    for (const run of this.#withDeadline) {
      if (run.phase === 'running') continue;
      if (run.deadlineMs! <= nowMs) {
        this.end(run, 'failed', nowMs, overdueError);
        ended.push(shown(run));
      } else nextDueMs = Math.min(nextDueMs, run.deadlineMs!);
    }
    for (const run of this.#later) {
      if (run.dueAtMs <= nowMs) this.#enter(run, 'ready');
      else nextDueMs = Math.min(nextDueMs, run.dueAtMs);
    }
    const mayTake = (run: Kept): boolean =>
      claimed.length < limit && tasks.includes(run.task) && (id === undefined || run.id === id);
    for (const run of this.#running) {
      if (run.untilMs > nowMs) nextDueMs = Math.min(nextDueMs, run.untilMs);
      else if (mayTake(run)) {
        run.crashes++;
        if (run.crashes > maxCrashes || run.cancelReason !== undefined) {
          const error =
            run.cancelReason === undefined ? workerLostError(run.crashes) : cancelledError(run.cancelReason);
          this.end(run, run.cancelReason === undefined ? 'failed' : 'cancelled', nowMs, error);
          ended.push(shown(run));
        } else claimed.push(this.start(run, nowMs, untilMs));
      }
    }
    for (const priority of [...this.#ready.keys()].sort((a, b) => b - a)) {
      const line = this.#ready.get(priority)!;
      const passed: Kept[] = [];
      while (claimed.length < limit) {
        const run = line.shift();
        if (!run) break;
        if (run.phase !== 'ready') continue;
        if (!mayTake(run)) passed.push(run);
        else if (this.hasRoom(run)) claimed.push(this.start(run, nowMs, untilMs));
        else this.#enter(run, 'blocked');
      }
      line.unshift(passed);
      if (line.size === 0) this.#ready.delete(priority);
    }
    return { runs: claimed, ended, nextDueMs: nextDueMs === Number.POSITIVE_INFINITY ? undefined : nextDueMs };
  }

  #enter(run: Kept, phase: Kept['phase']): void {
    if (run.phase !== 'running' && run.phase !== 'ended') this.#queued--;
    this.#later.delete(run);
    this.#running.delete(run);
    run.phase = phase;
    if (phase !== 'running' && phase !== 'ended') this.#queued++;
    if (phase === 'later') this.#later.add(run);
    if (phase === 'running') this.#running.add(run);
    if (phase !== 'ready') return;
    let line = this.#ready.get(run.priority);
    if (!line) {
      line = new Deque();
      this.#ready.set(run.priority, line);
    }
    line.push(run);
  }
}

/** A run as others may see it. */
export function shown({ phase: _, untilMs: __, isAnnounced: ___, ...run }: Kept): Run {
  return run;
}
