import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { LeaseFact } from './facts.ts';
import type { LeaseStore } from './lease-store.ts';

export interface LeaseOptions {
  readonly store: LeaseStore;
  /** What the places belong to, in the store. */
  readonly key: string;
  readonly id: string;
  readonly userId: string;
  readonly ttlMs: number;
  /** 0: only by hand. */
  readonly refreshEveryMs: number;
  readonly clock: Clock;
  readonly observe: (fact: LeaseFact) => void;
  /** Called once, when the lease has ended in whatever way. */
  readonly onEnd: (lease: Lease) => void;
  /** Monotonic ms from before the store was asked: it cannot have granted the place any earlier. */
  readonly askedAt: number;
}

/** While the store cannot be asked, it is tried again this often; ten times in the life of a short lease. */
const retryMs = (ttlMs: number) => Math.min(1000, ttlMs / 10);

/**
 * A place that is held. It refreshes itself until it is released. The holder counts the time from before it asked, by a
 * clock that never goes back, so that it lets go before the store gives the place to somebody else.
 */
export class Lease implements AsyncDisposable {
  /** Names the lease among those of its user. */
  readonly id: string;
  readonly userId: string;
  /** What the place belongs to, in the store. */
  readonly key: string;
  readonly #options: LeaseOptions;
  readonly #abort = new AbortController();
  #endsAt: number;
  #refreshAt: number;
  #refreshing: Promise<boolean> | undefined;
  #releasing: Promise<void> | undefined;
  #stopTimer: () => void = () => undefined;
  #hasEnded = false;

  /** Made by `StreamLeases`. */
  constructor(options: LeaseOptions) {
    this.#options = options;
    this.id = options.id;
    this.userId = options.userId;
    this.key = options.key;
    this.#endsAt = options.askedAt + options.ttlMs;
    this.#refreshAt = this.#nextRefresh(options.askedAt);
    this.#wait();
  }

  /** True as long as the place is held. */
  get active(): boolean {
    if (!this.#hasEnded && this.#options.clock.monotonic() >= this.#endsAt) this.#lapse();
    return !this.#hasEnded;
  }

  /** Aborts when the lease is lost (reason: a `HubError` `unavailable`): its holder must stop. Not when it is released. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** How long the lease still lasts without a refresh, in ms. */
  get remainingMs(): number {
    return this.active ? this.#endsAt - this.#options.clock.monotonic() : 0;
  }

  /** Lets the lease last its whole time from now on. False: it has ended. Throws `unavailable` when nobody can tell now. */
  refresh(): Promise<boolean> {
    if (!this.active) return Promise.resolve(false);
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /**
   * Gives the place back; may be called twice. Never throws: where the store cannot be asked now, it is tried again as
   * long as the lease would have lasted.
   */
  release(): Promise<void> {
    this.#releasing ??= this.active ? this.#release() : Promise.resolve();
    return this.#releasing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  async #refresh(): Promise<boolean> {
    const { store, key, clock, ttlMs } = this.#options;
    const askedAt = clock.monotonic();
    const isHeld = await store.refresh(key, this.id, ttlMs);
    // Time may have run out meanwhile, and then the signal was given: there is no way back.
    if (!this.active) return false;
    if (!isHeld) {
      this.#lose('the store does not know it any more');
      return false;
    }
    this.#endsAt = askedAt + ttlMs;
    this.#refreshAt = this.#nextRefresh(askedAt);
    this.#wait();
    return true;
  }

  #nextRefresh(from: number): number {
    const { refreshEveryMs } = this.#options;
    return refreshEveryMs > 0 ? from + refreshEveryMs : Number.POSITIVE_INFINITY;
  }

  /** Waits for the next refresh or the end, whichever is first. */
  #wait(): void {
    const { clock } = this.#options;
    this.#stopTimer();
    const at = Math.min(this.#refreshAt, this.#endsAt);
    this.#stopTimer = clock.after(Math.max(0, at - clock.monotonic()), () => this.#onTimer());
  }

  #onTimer(): void {
    if (!this.active) return;
    const { clock, observe, key, ttlMs } = this.#options;
    if (clock.monotonic() >= this.#refreshAt) {
      // The end must not wait for the answer.
      this.#refreshAt = Number.POSITIVE_INFINITY;
      this.refresh().catch((error: unknown) => {
        observe({ kind: 'lease-store-failed', call: 'refresh', key, leaseId: this.id, error: toHubError(error) });
        if (!this.active) return;
        this.#refreshAt = clock.monotonic() + retryMs(ttlMs);
        this.#wait();
      });
    }
    this.#wait();
  }

  async #release(): Promise<void> {
    this.#end();
    const { store, key, clock, observe, ttlMs } = this.#options;
    try {
      await store.release(key, this.id);
    } catch (error) {
      observe({ kind: 'lease-store-failed', call: 'release', key, leaseId: this.id, error: toHubError(error) });
      const inMs = retryMs(ttlMs);
      if (clock.monotonic() + inMs < this.#endsAt) clock.after(inMs, () => void this.#release());
    }
  }

  #lapse(): void {
    this.#lose(`it was not refreshed for ${this.#options.ttlMs} ms`);
  }

  #lose(reason: string): void {
    if (this.#hasEnded) return;
    this.#end();
    const { observe, key } = this.#options;
    observe({ kind: 'lease-lost', key, leaseId: this.id, reason });
    this.#abort.abort(new HubError('unavailable', `lease ${this.id} of "${this.userId}" is lost: ${reason}`));
  }

  #end(): void {
    this.#stopTimer();
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#options.onEnd(this);
  }
}
