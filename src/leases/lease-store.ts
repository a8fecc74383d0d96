/** A lease as a store knows it. */
export interface HeldLease {
  readonly id: string;
  /** Ends by itself after so many ms, unless it is refreshed. */
  readonly endsInMs: number;
}

/** What became of an attempt to take a place. */
export type Acquired =
  | { readonly kind: 'granted' }
  /** All places are taken, by `held` leases; one is free after at most `retryAfterMs`, unless its holder refreshes it. */
  | { readonly kind: 'refused'; readonly held: number; readonly retryAfterMs: number };

/**
 * Where leases are kept: places, held for a time, among the limited places of a key. Each call is atomic, so that many
 * processes may make it at once, and may be repeated when its answer was lost. Time is the store's own. A lease that is
 * not refreshed ends after its `ttlMs`: what a dead process held comes back by that, and a lease that has ended never
 * comes to life again.
 */
export interface LeaseStore {
  /** Takes one of `limit` places of `key` for the lease `id`, for `ttlMs`. One that `id` has already is refreshed. */
  acquire(key: string, id: string, options: { readonly limit: number; readonly ttlMs: number }): Promise<Acquired>;
  /** Lets the lease last `ttlMs` from now on. False: it has ended. */
  refresh(key: string, id: string, ttlMs: number): Promise<boolean>;
  /** Gives the place back. False: the lease had ended. */
  release(key: string, id: string): Promise<boolean>;
  /** The leases of a key that have not ended, the one that ends first first. */
  list(key: string): Promise<readonly HeldLease[]>;
  close(): Promise<void>;
}
