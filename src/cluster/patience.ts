import type { Clock } from '../flow/clock.ts';
import type { Command } from '../protocol/command.ts';

/** Time beyond a command's own for its last update to come, in ms. */
const graceMs = 5000;
/** Before it is accepted anywhere, a command whose holder cannot be reached waits this long for a better one, at most. */
const refusedMs = 15_000;

/** How long one command is looked after, from now on, and how long to wait between two attempts. */
export class Patience {
  readonly #command: Command;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #startedAt: number;
  #attempts = 0;
  #wake: (() => void) | undefined;

  constructor(command: Command, clock: Clock, random: () => number) {
    this.#command = command;
    this.#clock = clock;
    this.#random = random;
    this.#startedAt = clock.monotonic();
  }

  /** What is left of the time in which its client may connect, in ms. */
  get waitLeftMs(): number {
    return Math.max(0, Math.ceil(this.#command.waitForConnectMs - this.#ageMs));
  }

  /** What is left of the time in which another holder of its client may be found, in ms. */
  get refusedLeftMs(): number {
    const { whenOffline, timeoutMs, waitForConnectMs } = this.#command;
    const mostMs = whenOffline === 'queue' ? refusedMs : Math.min(refusedMs, timeoutMs + waitForConnectMs);
    return mostMs - this.#ageMs;
  }

  /** What is left of all the time that it has, in ms. */
  get leftMs(): number {
    const { whenOffline, timeoutMs, waitForConnectMs, ttlMs } = this.#command;
    if (whenOffline === 'fail') return timeoutMs + waitForConnectMs + graceMs - this.#ageMs;
    return timeoutMs === 0 ? Number.POSITIVE_INFINITY : ttlMs + timeoutMs + graceMs - this.#ageMs;
  }

  get #ageMs(): number {
    return this.#clock.monotonic() - this.#startedAt;
  }

  /** Something was heard of it: the next pauses are short again. */
  renew(): void {
    this.#attempts = 0;
  }

  /** Longer with each attempt. Ends early by `wake`. */
  pause(mostMs: number): Promise<undefined> {
    const ms = Math.min(mostMs, (0.5 + this.#random() / 2) * Math.min(1000, 20 * 2 ** this.#attempts++));
    return new Promise((resolve) => {
      const letGo = this.#clock.after(ms, () => this.#wake?.());
      this.#wake = () => {
        letGo();
        this.#wake = undefined;
        resolve(undefined);
      };
    });
  }

  wake(): void {
    this.#wake?.();
  }
}
