import { isTerminalRun, type Run } from './run.ts';
import { type Kept, RunLines, shown } from './run-lines.ts';
import {
  cancelledError,
  conflictMessage,
  isSameRun,
  keyFullMessage,
  newestReason,
  queueFullMessage,
  supersededReason,
} from './run-rules.ts';
import type { AttemptEnd, Claim, NewRun, RenewOutcome, RunFilter, RunStore } from './run-store.ts';

/** Runs that live and die with their process. */
export function memoryRunStore(): RunStore {
  const runs = new Map<string, Kept>();
  const byKey = new Map<string, Kept>();
  const lines = new RunLines();

  const idempotencyKey = (run: NewRun): string | undefined =>
    run.idempotencyKey === undefined ? undefined : JSON.stringify([run.tenant, run.task, run.idempotencyKey]);
  const standing = ({ id, epoch }: Claim): Kept | undefined => {
    const run = runs.get(id);
    return run && run.phase === 'running' && run.epoch === epoch ? run : undefined;
  };

  return {
    async add(run, { nowMs, maxQueued, claim }) {
      const key = idempotencyKey(run);
      const known = runs.get(run.id) ?? (key === undefined ? undefined : byKey.get(key));
      if (known)
        return isSameRun(known, run)
          ? { kind: 'existing', run: shown(known) }
          : { kind: 'conflict', message: conflictMessage(known, run) };
      const others = [...lines.activeOf(run)];
      const surplus = run.concurrency ? others.length - run.concurrency.limit + 1 : 0;
      const onFull = run.concurrency?.onFull;
      if (surplus > 0 && onFull === 'reject') return { kind: 'full', message: keyFullMessage(run) };
      if (lines.queued >= maxQueued) return { kind: 'full', message: queueFullMessage(run, maxQueued) };
      const cancelled: Run[] = [];
      if (surplus > 0 && onFull === 'cancel-oldest')
        for (const other of others.filter(({ cancelReason }) => cancelReason === undefined).slice(0, surplus)) {
          lines.ask(other, supersededReason(run), nowMs);
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
      lines.add(kept);
      lines.queue(kept, run.dueAtMs, nowMs);
      if (surplus > 0 && onFull === 'cancel-newest') lines.ask(kept, newestReason(run), nowMs);
      // Nothing else waits: nothing can have to come before it.
      else if (claim && lines.queued === 1 && kept.phase === 'ready' && lines.hasRoom(kept))
        lines.start(kept, nowMs, claim.untilMs);
      return { kind: 'stored', run: shown(kept), cancelled };
    },
    claim: async (request) => lines.claim(request),
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
        lines.end(run, 'cancelled', nowMs, cancelledError(run.cancelReason));
        return shown(run);
      }
      switch (how.kind) {
        case 'succeeded':
          run.result = how.result;
          lines.end(run, 'succeeded', nowMs);
          break;
        case 'failed':
          run.failures++;
          lines.end(run, 'failed', nowMs, how.error);
          break;
        case 'cancelled':
          lines.end(run, 'cancelled', nowMs, how.error);
          break;
        case 'retry':
          run.failures++;
          run.error = how.error;
          lines.queue(run, how.dueAtMs, nowMs);
          lines.unblock(run);
          break;
        case 'released':
          lines.queue(run, how.dueAtMs ?? nowMs, nowMs);
          lines.unblock(run);
          break;
        default:
          how satisfies never;
      }
      return shown(run);
    },
    async cancel(tenant, id, reason, nowMs) {
      const run = runs.get(id);
      if (!run || run.tenant !== tenant) return undefined;
      if (!isTerminalRun(run.state)) lines.ask(run, reason, nowMs);
      return shown(run);
    },
    unannounced: async (limit) => [...lines.unannounced].slice(0, limit).map(shown),
    async announced(ids) {
      for (const id of ids) {
        const run = runs.get(id);
        if (run?.phase !== 'ended') continue;
        run.isAnnounced = true;
        lines.unannounced.delete(run);
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
