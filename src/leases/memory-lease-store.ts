import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { Acquired, LeaseStore } from './lease-store.ts';

/** Leases that live and die with their process, which is what a hub on its own wants: so do its streams. */
export function memoryLeaseStore({ clock = systemClock }: { clock?: Clock | undefined } = {}): LeaseStore {
  /** For each key the end of each lease, in monotonic ms. Keys without leases are not kept. */
  const keys = new Map<string, Map<string, number>>();
  let isClosed = false;
  let sweepAbove = 1000;

  const living = (key: string): Map<string, number> => {
    if (isClosed) throw new HubError('unavailable', 'the lease store is closed');
    const leases = keys.get(key);
    if (leases === undefined) return new Map();
    const now = clock.monotonic();
    for (const [id, endsAt] of leases) if (endsAt <= now) leases.delete(id);
    if (leases.size === 0) keys.delete(key);
    return leases;
  };
  /** Users who never come back leave nothing behind. */
  const sweep = () => {
    for (const key of [...keys.keys()]) living(key);
    sweepAbove = Math.max(1000, keys.size * 2);
  };
  const ends = (leases: ReadonlyMap<string, number>) => [...leases].sort(([, a], [, b]) => a - b);

  return {
    async acquire(key, id, { limit, ttlMs }): Promise<Acquired> {
      const leases = living(key);
      const now = clock.monotonic();
      if (!leases.has(id) && leases.size >= limit)
        return { kind: 'refused', held: leases.size, retryAfterMs: ends(leases)[leases.size - limit]![1] - now };
      leases.set(id, now + ttlMs);
      keys.set(key, leases);
      if (keys.size > sweepAbove) sweep();
      return { kind: 'granted' };
    },
    async refresh(key, id, ttlMs) {
      const leases = living(key);
      if (!leases.has(id)) return false;
      leases.set(id, clock.monotonic() + ttlMs);
      return true;
    },
    async release(key, id) {
      const leases = living(key);
      const wasHeld = leases.delete(id);
      if (leases.size === 0) keys.delete(key);
      return wasHeld;
    },
    async list(key) {
      const leases = living(key);
      const now = clock.monotonic();
      return ends(leases).map(([id, endsAt]) => ({ id, endsInMs: endsAt - now }));
    },
    async close() {
      isClosed = true;
      keys.clear();
    },
  };
}
