import { HubError } from '../errors.ts';

/** How long to wait between attempts. */
export interface BackoffOptions {
  /** Upper end of the first wait, in ms. Default: 500. */
  minMs?: number | undefined;
  /** Upper end that no wait exceeds, in ms. Default: 30,000. */
  maxMs?: number | undefined;
  /** Where chance comes from. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

/**
 * Waits with full jitter: each is a random part of a range that doubles up to `maxMs`, so that many who lost the same
 * peer do not come back together.
 */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #attempts = 0;

  /** Throws `invalid-argument` unless 0 < minMs <= maxMs. */
  constructor({ minMs = 500, maxMs = 30_000, random = Math.random }: BackoffOptions = {}) {
    if (!(minMs > 0 && minMs <= maxMs && maxMs < Number.POSITIVE_INFINITY))
      throw new HubError('invalid-argument', `backoff from ${minMs} to ${maxMs} ms: 0 < minMs <= maxMs is asked for`);
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** Attempts since the last reset. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The next wait, in ms. */
  next(): number {
    // 2 ** 1024 is Infinity, and min() makes maxMs of it: any number of attempts is fine.
    return this.#random() * Math.min(this.#maxMs, this.#minMs * 2 ** this.#attempts++);
  }

  /** Begins again with the shortest range; to be called once the peer has proved stable. */
  reset(): void {
    this.#attempts = 0;
  }
}
