import { HubError, toHubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { LeaseFact } from './facts.ts';
import { Lease } from './lease.ts';
import type { HeldLease, LeaseStore } from './lease-store.ts';
import { memoryLeaseStore } from './memory-lease-store.ts';

export interface StreamLeasesOptions {
  /** Where leases are kept; stays its owner's. Default: the memory of this process. */
  readonly store?: LeaseStore | undefined;
  /** Places of each user. Default: 5. */
  readonly limit?: number | undefined;
  /** How long a lease lasts that is not refreshed, in ms: after so long the places of a dead process are free. Default: 180,000. */
  readonly ttlMs?: number | undefined;
  /** How often a lease refreshes itself, in ms; 0 for never. Default: a third of `ttlMs`. */
  readonly refreshEveryMs?: number | undefined;
  /** Begins the leases' ids, to tell in a list who holds what: 1 to 64 of `A-Z a-z 0-9 . _ -`. Default: none. */
  readonly holder?: string | undefined;
  readonly clock?: Clock | undefined;
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  readonly observe?: ((fact: LeaseFact) => void) | undefined;
}

export interface AcquireOptions {
  /** Users of different tenants have nothing to do with each other. Default: `default`. */
  readonly tenant?: string | undefined;
}

/**
 * A limit to what one user may have open at once (streams, exports, calls), over all processes that share a store.
 * A user id is any text of 1 to 256 characters.
 */
export class StreamLeases implements AsyncDisposable {
  /** Places of each user. */
  readonly limit: number;
  readonly #store: LeaseStore;
  readonly #ownStore: LeaseStore | undefined;
  readonly #ttlMs: number;
  readonly #refreshEveryMs: number;
  readonly #holder: string;
  readonly #clock: Clock;
  readonly #observe: (fact: LeaseFact) => void;
  readonly #held = new Set<Lease>();
  #isClosed = false;

  constructor(options: StreamLeasesOptions = {}) {
    const { limit = 5, ttlMs = 180_000, clock = systemClock, observe = () => undefined, holder = '' } = options;
    const refreshEveryMs = options.refreshEveryMs ?? ttlMs / 3;
    const refuse = (what: string): never => {
      throw new HubError('invalid-argument', what);
    };
    if (!Number.isSafeInteger(limit) || limit < 1) refuse(`a limit of ${limit} leases lets nobody in: at least 1`);
    if (!Number.isFinite(ttlMs) || ttlMs < 10 || ttlMs > 2 ** 31 - 1)
      refuse(`ttlMs is ${ttlMs}, it must be from 10 to ${2 ** 31 - 1}`);
    if (!(refreshEveryMs >= 0 && refreshEveryMs < ttlMs))
      refuse(`refreshEveryMs is ${refreshEveryMs}, it must be less than ttlMs (${ttlMs})`);
    if (!/^[A-Za-z0-9._-]{0,64}$/.test(holder)) refuse(`${JSON.stringify(holder.slice(0, 200))} cannot name a holder`);
    this.limit = limit;
    this.#ownStore = options.store ? undefined : memoryLeaseStore({ clock });
    this.#store = options.store ?? this.#ownStore!;
    this.#ttlMs = ttlMs;
    this.#refreshEveryMs = refreshEveryMs;
    this.#holder = holder;
    this.#clock = clock;
    this.#observe = observe;
  }

  /**
   * Takes a place of the user. Throws `stream-limit-exceeded` when all are taken (`retryAfterMs`: when the first of
   * them ends at the latest, unless it is refreshed), `unavailable` when the store cannot be asked.
   */
  async acquire(userId: string, { tenant }: AcquireOptions = {}): Promise<Lease> {
    if (this.#isClosed) throw new HubError('unavailable', 'leases are closed');
    const key = keyOf(userId, tenant);
    const id = this.#holder === '' ? uniqueId() : `${this.#holder}:${uniqueId()}`;
    const askedAt = this.#clock.monotonic();
    const acquired = await this.#store.acquire(key, id, { limit: this.limit, ttlMs: this.#ttlMs }).catch((error) => {
      // The place may have been given and the answer lost.
      this.#store.release(key, id).catch((cause: unknown) => {
        const failure = { kind: 'lease-store-failed', call: 'release', key, leaseId: id } as const;
        this.#observe({ ...failure, error: toHubError(cause) });
      });
      throw error;
    });
    if (acquired.kind === 'refused') {
      const { held, retryAfterMs } = acquired;
      this.#observe({ kind: 'lease-refused', key, held, retryAfterMs });
      throw new HubError('stream-limit-exceeded', `"${userId}" has ${held} streams open, the limit is ${this.limit}`, {
        retryAfterMs: Math.max(1, Math.ceil(retryAfterMs)),
      });
    }
    const lease = new Lease({
      store: this.#store,
      key,
      id,
      userId,
      ttlMs: this.#ttlMs,
      refreshEveryMs: this.#refreshEveryMs,
      clock: this.#clock,
      observe: this.#observe,
      onEnd: (ended) => this.#held.delete(ended),
      askedAt,
    });
    this.#held.add(lease);
    if (this.#isClosed || !lease.active) {
      await lease.release();
      throw new HubError('unavailable', this.#isClosed ? 'leases are closed' : 'the lease ended before it was granted');
    }
    return lease;
  }

  /**
   * Runs `fn` while a place is held, and gives it back whatever comes of it. `fn` has to stop when `lease.signal`
   * aborts. Throws as `acquire` does, and what `fn` throws.
   */
  async withStreamLease<T>(userId: string, fn: (lease: Lease) => T | Promise<T>, options?: AcquireOptions): Promise<T> {
    const lease = await this.acquire(userId, options);
    try {
      return await fn(lease);
    } finally {
      await lease.release();
    }
  }

  /** True when a place is free now. Somebody may take it before you do. */
  async canAcquire(userId: string, options: AcquireOptions = {}): Promise<boolean> {
    return (await this.count(userId, options)) < this.limit;
  }

  /** How many places of the user are taken. */
  async count(userId: string, options: AcquireOptions = {}): Promise<number> {
    return (await this.list(userId, options)).length;
  }

  /** The leases of the user in all processes, the one that ends first first. */
  list(userId: string, { tenant }: AcquireOptions = {}): Promise<readonly HeldLease[]> {
    return this.#store.list(keyOf(userId, tenant));
  }

  /** Refreshes a lease by its id, whoever holds it. False: it has ended. */
  async refresh(userId: string, leaseId: string, { tenant }: AcquireOptions = {}): Promise<boolean> {
    const key = keyOf(userId, tenant);
    const own = this.#own(key, leaseId);
    return own ? own.refresh() : this.#store.refresh(key, leaseId, this.#ttlMs);
  }

  /** Ends a lease by its id, whoever holds it: `signal` of its holder aborts with its next refresh. False: it had ended. */
  async release(userId: string, leaseId: string, { tenant }: AcquireOptions = {}): Promise<boolean> {
    const key = keyOf(userId, tenant);
    const wasHeld = await this.#store.release(key, leaseId);
    // A holder in this process hears of it at once.
    await this.#own(key, leaseId)?.refresh();
    return wasHeld;
  }

  /** Releases all that is held here. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#held].map((lease) => lease.release()));
    await this.#ownStore?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #own(key: string, leaseId: string): Lease | undefined {
    for (const lease of this.#held) if (lease.id === leaseId && lease.key === key) return lease;
    return undefined;
  }
}

function keyOf(userId: string, tenant = 'default'): string {
  if (typeof userId !== 'string' || userId.length < 1 || userId.length > 256)
    throw new HubError(
      'invalid-argument',
      `${JSON.stringify(userId)?.slice(0, 100)} is not a user id: 1 to 256 characters`,
    );
  return `${tenant}/${userId}`;
}
