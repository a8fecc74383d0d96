import type { Acquired, HeldLease } from '../leases/lease-store.ts';
import type { Database } from './driver.ts';

/** The leases in the database. Runs in the store's thread; the caller makes the transactions, and says what time it is. */
export class LeaseTable {
  readonly #db: Database;
  readonly #forgetEnded;
  readonly #list;
  readonly #put;
  readonly #refresh;
  readonly #delete;

  constructor(db: Database) {
    this.#db = db;
    this.#forgetEnded = db.prepare<[string, number]>('DELETE FROM leases WHERE key = ? AND ends_at_ms <= ?');
    this.#list = db.prepare<[string, number], { id: string; endsAtMs: number }>(
      'SELECT id, ends_at_ms AS endsAtMs FROM leases WHERE key = ? AND ends_at_ms > ? ORDER BY ends_at_ms, id',
    );
    this.#put = db.prepare<[string, string, number, number]>(
      'INSERT OR REPLACE INTO leases (key, id, ttl_ms, ends_at_ms) VALUES (?, ?, ?, ?)',
    );
    this.#refresh = db.prepare<[number, number, string, string, number]>(
      'UPDATE leases SET ttl_ms = ?, ends_at_ms = ? WHERE key = ? AND id = ? AND ends_at_ms > ?',
    );
    this.#delete = db.prepare<[string, string]>('DELETE FROM leases WHERE key = ? AND id = ?');
  }

  /** To be called at the start: were the clock set back meanwhile, leases would last longer than anybody asked for. */
  setClock(nowMs: number): void {
    this.#db.prepare('UPDATE leases SET ends_at_ms = ? + ttl_ms WHERE ends_at_ms > ? + ttl_ms').run(nowMs, nowMs);
  }

  acquire(key: string, id: string, limit: number, ttlMs: number, nowMs: number): Acquired {
    this.#forgetEnded.run(key, nowMs);
    const held = this.#list.all(key, nowMs);
    if (held.length >= limit && !held.some((lease) => lease.id === id))
      return { kind: 'refused', held: held.length, retryAfterMs: held[held.length - limit]!.endsAtMs - nowMs };
    this.#put.run(key, id, ttlMs, nowMs + ttlMs);
    return { kind: 'granted' };
  }

  refresh(key: string, id: string, ttlMs: number, nowMs: number): boolean {
    return this.#refresh.run(ttlMs, nowMs + ttlMs, key, id, nowMs).changes > 0;
  }

  release(key: string, id: string, nowMs: number): boolean {
    this.#forgetEnded.run(key, nowMs);
    return this.#delete.run(key, id).changes > 0;
  }

  list(key: string, nowMs: number): HeldLease[] {
    return this.#list.all(key, nowMs).map(({ id, endsAtMs }) => ({ id, endsInMs: endsAtMs - nowMs }));
  }

  /** Forgets what users who did not come back left behind. */
  prune(nowMs: number): number {
    return this.#db.prepare('DELETE FROM leases WHERE ends_at_ms <= ?').run(nowMs).changes;
  }
}
