import type { RunStore } from '../tasks/run-store.ts';
import { addedRun, runOfValues, valuesOf } from './run-row.ts';
import type { SqliteEventLog } from './sqlite-event-log.ts';
import type { StoreThread } from './store-thread.ts';

/**
 * Keeps runs of tasks in SQLite, and tells their ends in `log`, which is in the same database. A promise that resolves
 * means: on disk. `close` belongs to the thread's owner.
 */
export function sqliteRunStore(thread: StoreThread, log: SqliteEventLog): RunStore {
  return {
    async add(run, { nowMs, maxQueued, claim }) {
      const options = { nowMs, maxQueued, untilMs: claim?.untilMs };
      const outcome = await thread.call('addRun', [valuesOf(run), options], run.input.length * 2 + 512);
      if (typeof outcome === 'object') return outcome;
      return { kind: 'stored', run: addedRun(run, nowMs, outcome === 'running'), cancelled: [] };
    },
    async claim(request) {
      const { runs, ended, nextDueMs } = await thread.call('claimRuns', [request]);
      return { runs: runs.map(runOfValues), ended, nextDueMs };
    },
    renew: (claims, options) => thread.call('renewClaims', [claims, options], 64 * claims.length),
    checkpoint: (claim, data, nowMs) => thread.call('checkpointRun', [claim, data, nowMs], data.length * 2),
    settle: (claim, end, nowMs) =>
      thread.call('settleRun', [claim, end, nowMs], end.kind === 'succeeded' ? end.result.length * 2 : 256),
    teller: {
      log,
      settle: ({ id, epoch }, end, nowMs, announcements) =>
        log.appendWith(announcements, (rows) => {
          const error = end.kind === 'succeeded' ? undefined : end.error;
          const values = {
            state: end.kind,
            isFailure: end.kind === 'failed',
            result: end.kind === 'succeeded' ? end.result : null,
            errorCode: error?.code ?? null,
            errorMessage: error?.message ?? null,
          };
          const bytes = rows.reduce((sum, { data }) => sum + data.length + 256, (values.result?.length ?? 0) + 256);
          return thread.call('endRun', [id, epoch, values, nowMs, rows], bytes);
        }),
    },
    cancel: (tenant, id, reason, nowMs) => thread.call('cancelRun', [tenant, id, reason, nowMs], 256),
    unannounced: (limit) => thread.call('unannouncedRuns', [limit]),
    announced: (ids) => thread.call('runsAnnounced', [ids], 64 * ids.length),
    get: (tenant, id) => thread.call('getRun', [tenant, id]),
    list: (filter) => thread.call('listRuns', [filter]),
    async prune({ endedBeforeMs, maxEnded }) {
      let forgotten = 0;
      for (;;) {
        const count = await thread.call('pruneRuns', [endedBeforeMs, maxEnded]);
        forgotten += count;
        if (count === 0) return forgotten;
      }
    },
    async close() {
      // The thread is shared with the event log; `SqliteStore.close` closes it.
    },
  };
}
