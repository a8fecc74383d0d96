import { Deque } from '../flow/deque.ts';
import { isTerminalRun, type Run, type RunError } from './run.ts';
import {
  cancelledError,
  conflictMessage,
  isSameRun,
  keyFullMessage,
  limitKey,
  newestReason,
  overdueError,
  queueFullMessage,
  supersededReason,
  workerLostError,
} from './run-rules.ts';
import type {
  AttemptEnd,
  Claim,
  Claimed,
  ClaimRequest,
  NewRun,
  RenewOutcome,
  RunFilter,
  RunStore,
} from './run-store.ts';

type Kept = { -readonly [Key in keyof Run]: Run[Key] } & {
  /** `later` waits for its time, `blocked` for a place of its key. */
  phase: 'later' | 'ready' | 'blocked' | 'running' | 'ended';
  untilMs: number;
  isAnnounced: boolean;
};

/** Runs that live and die with their process. */
export function memoryRunStore(): RunStore {
  const runs = new Map<string, Kept>();
  const byKey = new Map<string, Kept>();
  const ready = new Map<number, Deque<Kept>>();
  const later = new Set<Kept>();
  const running = new Set<Kept>();
  const unannounced = new Set<Kept>();
  const withDeadline = new Set<Kept>();
  /** Active runs of each limit key, in their order. */
  const active = new Map<string, Set<Kept>>();
  let queued = 0;

  const idempotencyKey = (run: NewRun): string | undefined =>
    run.idempotencyKey === undefined ? undefined : JSON.stringify([run.tenant, run.task, run.idempotencyKey]);
  const activeOf = (run: NewRun): Set<Kept> => {
    const key = limitKey(run);
    if (key === undefined) return new Set();
    let set = active.get(key);
    if (!set) {
      set = new Set();
      active.set(key, set);
    }
    return set;
  };
  const runningOf = (run: NewRun): number => {
    let count = 0;
    for (const other of activeOf(run)) if (other.phase === 'running') count++;
    return count;
  };

  const enter = (run: Kept, phase: Kept['phase']): void => {
    if (run.phase !== 'running' && run.phase !== 'ended') queued--;
    later.delete(run);
    running.delete(run);
    run.phase = phase;
    if (phase !== 'running' && phase !== 'ended') queued++;
    if (phase === 'later') later.add(run);
    if (phase === 'running') running.add(run);
    if (phase !== 'ready') return;
    let line = ready.get(run.priority);
    if (!line) {
      line = new Deque();
      ready.set(run.priority, line);
    }
    line.push(run);
  };
  const unblock = (run: Kept): void => {
    for (const other of activeOf(run))
      if (other.phase === 'blocked') {
        enter(other, 'ready');
        return;
      }
  };
  const queue = (run: Kept, dueAtMs: number, nowMs: number): void => {
    run.state = 'queued';
    run.dueAtMs = dueAtMs;
    enter(run, dueAtMs <= nowMs ? 'ready' : 'later');
  };
  const end = (run: Kept, state: 'succeeded' | 'failed' | 'cancelled', nowMs: number, error?: RunError): void => {
    const wasRunning = run.phase === 'running';
    enter(run, 'ended');
    Object.assign(run, { state, error, endedAtMs: nowMs, updatedAtMs: nowMs, checkpoint: undefined });
    withDeadline.delete(run);
    unannounced.add(run);
    const set = activeOf(run);
    set.delete(run);
    if (wasRunning) unblock(run);
    const key = limitKey(run);
    if (key !== undefined && set.size === 0) active.delete(key);
  };
  const ask = (run: Kept, reason: string, nowMs: number): void => {
    if (run.phase === 'running') {
      run.cancelReason ??= reason;
      run.updatedAtMs = nowMs;
    } else {
      run.cancelReason = reason;
      end(run, 'cancelled', nowMs, cancelledError(reason));
    }
  };
  const standing = ({ id, epoch }: Claim): Kept | undefined => {
    const run = runs.get(id);
    return run && run.phase === 'running' && run.epoch === epoch ? run : undefined;
  };

  const start = (run: Kept, nowMs: number, untilMs: number): Run => {
    enter(run, 'running');
    run.epoch++;
    Object.assign(run, { state: 'running', untilMs, updatedAtMs: nowMs, startedAtMs: run.startedAtMs ?? nowMs });
    return shown(run);
  };
  const hasRoom = (run: Kept): boolean => !run.concurrency || runningOf(run) < run.concurrency.limit;

  function claim(request: ClaimRequest): Claimed {
    const { nowMs, untilMs, tasks, limit, maxCrashes, id } = request;
    const ended: Run[] = [];
    const claimed: Run[] = [];
    let nextDueMs = Number.POSITIVE_INFINITY;
    for (const run of withDeadline) {
      if (run.phase === 'running') continue;
      if (run.deadlineMs! <= nowMs) {
        end(run, 'failed', nowMs, overdueError);
        ended.push(shown(run));
      } else nextDueMs = Math.min(nextDueMs, run.deadlineMs!);
    }
    for (const run of later) {
      if (run.dueAtMs <= nowMs) enter(run, 'ready');
      else nextDueMs = Math.min(nextDueMs, run.dueAtMs);
    }
    const mayTake = (run: Kept): boolean =>
      claimed.length < limit && tasks.includes(run.task) && (id === undefined || run.id === id);
    for (const run of running) {
      if (run.untilMs > nowMs) nextDueMs = Math.min(nextDueMs, run.untilMs);
      else if (mayTake(run)) {
        run.crashes++;
        if (run.crashes > maxCrashes || run.cancelReason !== undefined) {
          const error =
            run.cancelReason === undefined ? workerLostError(run.crashes) : cancelledError(run.cancelReason);
          end(run, run.cancelReason === undefined ? 'failed' : 'cancelled', nowMs, error);
          ended.push(shown(run));
        } else claimed.push(start(run, nowMs, untilMs));
      }
    }
    for (const priority of [...ready.keys()].sort((a, b) => b - a)) {
      const line = ready.get(priority)!;
      const passed: Kept[] = [];
      while (claimed.length < limit) {
        const run = line.shift();
        if (!run) break;
        if (run.phase !== 'ready') continue;
        if (!mayTake(run)) passed.push(run);
        else if (hasRoom(run)) claimed.push(start(run, nowMs, untilMs));
        else enter(run, 'blocked');
      }
      line.unshift(passed);
      if (line.size === 0) ready.delete(priority);
    }
    return { runs: claimed, ended, nextDueMs: nextDueMs === Number.POSITIVE_INFINITY ? undefined : nextDueMs };
  }

  return {
    async add(run, { nowMs, maxQueued, claim }) {
      const key = idempotencyKey(run);
      const known = runs.get(run.id) ?? (key === undefined ? undefined : byKey.get(key));
      if (known)
        return isSameRun(known, run)
          ? { kind: 'existing', run: shown(known) }
          : { kind: 'conflict', message: conflictMessage(known, run) };
      const others = [...activeOf(run)];
      const surplus = run.concurrency ? others.length - run.concurrency.limit + 1 : 0;
      const onFull = run.concurrency?.onFull;
      if (surplus > 0 && onFull === 'reject') return { kind: 'full', message: keyFullMessage(run) };
      if (queued >= maxQueued) return { kind: 'full', message: queueFullMessage(run, maxQueued) };
      const cancelled: Run[] = [];
      if (surplus > 0 && onFull === 'cancel-oldest')
        for (const other of others.filter(({ cancelReason }) => cancelReason === undefined).slice(0, surplus)) {
          ask(other, supersededReason(run), nowMs);
          cancelled.push(shown(other));
        }
      const kept: Kept = {
        ...run,
        state: 'queued',
        epoch: 0,
        failures: 0,
        crashes: 0,
        createdAtMs: nowMs,
        updatedAtMs: nowMs,
        startedAtMs: undefined,
        endedAtMs: undefined,
        cancelReason: undefined,
        checkpoint: undefined,
        result: undefined,
        error: undefined,
        phase: 'ended',
        untilMs: 0,
        isAnnounced: false,
      };
      runs.set(run.id, kept);
      if (key !== undefined) byKey.set(key, kept);
      if (run.concurrency) activeOf(run).add(kept);
      if (run.deadlineMs !== undefined) withDeadline.add(kept);
      queue(kept, run.dueAtMs, nowMs);
      if (surplus > 0 && onFull === 'cancel-newest') ask(kept, newestReason(run), nowMs);
      // Nothing else waits: nothing can have to come before it.
      else if (claim && queued === 1 && kept.phase === 'ready' && hasRoom(kept)) start(kept, nowMs, claim.untilMs);
      return { kind: 'stored', run: shown(kept), cancelled };
    },
    claim: async (request) => claim(request),
    async renew(claims, { untilMs }) {
      return claims.map((each): RenewOutcome => {
        const run = standing(each);
        if (!run) return 'lost';
        run.untilMs = untilMs;
        return run.cancelReason === undefined ? 'kept' : { cancelReason: run.cancelReason };
      });
    },
    async checkpoint(of, data, nowMs) {
      const run = standing(of);
      if (run) Object.assign(run, { checkpoint: data, crashes: 0, updatedAtMs: nowMs });
      return run !== undefined;
    },
    async settle(of, how: AttemptEnd, nowMs) {
      const run = standing(of);
      if (!run) return undefined;
      run.updatedAtMs = nowMs;
      // A cancel that came while the attempt was ending: there is no other one to hear of it.
      if (run.cancelReason !== undefined && (how.kind === 'retry' || how.kind === 'released')) {
        end(run, 'cancelled', nowMs, cancelledError(run.cancelReason));
        return shown(run);
      }
      switch (how.kind) {
        case 'succeeded':
          run.result = how.result;
          end(run, 'succeeded', nowMs);
          break;
        case 'failed':
          run.failures++;
          end(run, 'failed', nowMs, how.error);
          break;
        case 'cancelled':
          end(run, 'cancelled', nowMs, how.error);
          break;
        case 'retry':
          run.failures++;
          run.error = how.error;
          queue(run, how.dueAtMs, nowMs);
          unblock(run);
          break;
        case 'released':
          queue(run, how.dueAtMs ?? nowMs, nowMs);
          unblock(run);
          break;
        default:
          how satisfies never;
      }
      return shown(run);
    },
    async cancel(tenant, id, reason, nowMs) {
      const run = runs.get(id);
      if (!run || run.tenant !== tenant) return undefined;
      if (!isTerminalRun(run.state)) ask(run, reason, nowMs);
      return shown(run);
    },
    unannounced: async (limit) => [...unannounced].slice(0, limit).map(shown),
    async announced(ids) {
      for (const id of ids) {
        const run = runs.get(id);
        if (run?.phase !== 'ended') continue;
        run.isAnnounced = true;
        unannounced.delete(run);
      }
    },
    async get(tenant, id) {
      const run = runs.get(id);
      return run?.tenant === tenant ? shown(run) : undefined;
    },
    async list(filter) {
      const found: Run[] = [];
      for (const run of [...runs.values()].reverse()) {
        if (found.length >= filter.limit) break;
        if (matches(run, filter)) found.push(shown(run));
      }
      return found;
    },
    async prune({ endedBeforeMs, maxEnded }) {
      const over = [...runs.values()]
        .filter(({ isAnnounced }) => isAnnounced)
        .sort((a, b) => a.endedAtMs! - b.endedAtMs!);
      const doomed = over.filter(({ endedAtMs }, i) => endedAtMs! < endedBeforeMs || over.length - i > maxEnded);
      for (const run of doomed) {
        runs.delete(run.id);
        const key = idempotencyKey(run);
        if (key !== undefined) byKey.delete(key);
      }
      return doomed.length;
    },
    close: async () => undefined,
  };
}

function matches(run: Kept, { tenant, task, owner, state, tag }: RunFilter): boolean {
  return (
    run.tenant === tenant &&
    (task === undefined || run.task === task) &&
    (owner === undefined || run.owner === owner) &&
    (state === undefined || run.state === state) &&
    (tag === undefined || run.tags.includes(tag))
  );
}

function shown({ phase: _, untilMs: __, isAnnounced: ___, ...run }: Kept): Run {
  return run;
}
