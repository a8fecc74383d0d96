/** How long to wait before connecting again. */
export interface BackoffOptions {
  /** Most that the first wait can be, in ms. Default: 500. A `retry:` field of the stream takes its place. */
  baseMs?: number;
  /** Most that any wait can be, in ms. Default: 30,000. */
  maxMs?: number;
}

/** Exponential backoff with full jitter: each wait is anything between 0 and a bound that doubles. */
export class Backoff {
  readonly #maxMs: number;
  readonly #random: () => number;
  #baseMs: number;
  #failures = 0;

  constructor({ baseMs = 500, maxMs = 30_000 }: BackoffOptions = {}, random: () => number = Math.random) {
    if (!(baseMs > 0)) throw new RangeError(`backoff.baseMs is ${baseMs}; it has to be above 0`);
    if (!(maxMs >= baseMs)) throw new RangeError(`backoff.maxMs is ${maxMs}; it has to be at least baseMs (${baseMs})`);
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** The server's word on how soon to come back, in ms. */
  hint(ms: number): void {
    this.#baseMs = Math.min(Math.max(ms, 1), this.#maxMs);
  }

  /** The next wait in ms. */
  next(): number {
    const bound = Math.min(this.#maxMs, this.#baseMs * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 30);
    return Math.ceil(this.#random() * bound);
  }

  /** Begins anew after a connection that worked. */
  reset(): void {
    this.#failures = 0;
  }
}
