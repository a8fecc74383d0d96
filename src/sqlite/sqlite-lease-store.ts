import type { LeaseStore } from '../leases/lease-store.ts';
import type { StoreThread } from './store-thread.ts';

/**
 * Keeps leases in SQLite. The time of a call is taken when it is made, so that a slow disk ends a lease earlier rather
 * than later than its holder thinks. `close` belongs to the thread's owner.
 */
export function sqliteLeaseStore(thread: StoreThread, now: () => number): LeaseStore {
  return {
    acquire: async (key, id, { limit, ttlMs }) => thread.call('acquireLease', [key, id, limit, ttlMs, now()]),
    refresh: (key, id, ttlMs) => thread.call('refreshLease', [key, id, ttlMs, now()]),
    release: (key, id) => thread.call('releaseLease', [key, id, now()]),
    list: (key) => thread.call('listLeases', [key, now()]),
    async close() {
      // The thread is shared; `SqliteStore.close` closes it.
    },
  };
}
