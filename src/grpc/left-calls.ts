import type { Clock } from '../flow/clock.ts';

/**
 * Calls whose caller has left. Cancelling each at once would be a reset each, and a server takes many resets for an
 * attack and closes the connection under everybody. Most calls end by themselves in a moment; the others are
 * cancelled a few at a time.
 */
export class LeftCalls {
  readonly #clock: Clock;
  /** With the time at which they were left. */
  readonly #calls = new Map<LeftCall, number>();
  #letGo: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(call: LeftCall): void {
    this.#calls.set(call, this.#clock.monotonic());
    this.#letGo ??= this.#clock.after(tickMs, this.#sweep);
  }

  /** It has ended. */
  delete(call: LeftCall): void {
    this.#calls.delete(call);
  }

  /** Cancels them all: the connection goes with them, and a call that lives on would keep it open. */
  close(): void {
    this.#letGo?.();
    this.#letGo = undefined;
    const calls = [...this.#calls.keys()];
    this.#calls.clear();
    for (const call of calls) call.cancel();
  }

  readonly #sweep = (): void => {
    this.#letGo = undefined;
    const nowMs = this.#clock.monotonic();
    let left = cancelsPerTick;
    for (const [call, sinceMs] of this.#calls) {
      // Oldest first; those behind it are younger.
      if (left-- === 0 || nowMs - sinceMs < tickMs) break;
      this.#calls.delete(call);
      call.cancel();
    }
    if (this.#calls.size > 0) this.#letGo = this.#clock.after(tickMs, this.#sweep);
  };
}

/** One that can be cancelled. */
export interface LeftCall {
  cancel(): void;
}

const tickMs = 1_000;
/** Node's servers take 33 resets a second for good, and 1,000 at once. */
const cancelsPerTick = 20;
