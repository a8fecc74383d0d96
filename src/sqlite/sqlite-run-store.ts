import type { RunStore } from '../tasks/run-store.ts';
import type { StoreThread } from './store-thread.ts';

/** Keeps runs of tasks in SQLite. A promise that resolves means: on disk. `close` belongs to the thread's owner. */
export function sqliteRunStore(thread: StoreThread): RunStore {
  return {
    add: (run, options) => thread.call('addRun', [run, options], run.input.length * 2 + 512),
    claim: (request) => thread.call('claimRuns', [request]),
    renew: (claims, options) => thread.call('renewClaims', [claims, options], 64 * claims.length),
    checkpoint: (claim, data, nowMs) => thread.call('checkpointRun', [claim, data, nowMs], data.length * 2),
    settle: (claim, end, nowMs) =>
      thread.call('settleRun', [claim, end, nowMs], end.kind === 'succeeded' ? end.result.length * 2 : 256),
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
