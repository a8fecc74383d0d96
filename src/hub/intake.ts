import { RareSet } from '../flow/rare-set.ts';

/**
 * Numbers of the frames from one device: which ones have come, and up to which the hub has taken over everything
 * (results and events are taken over only once they are kept). Only that number is acknowledged.
 */
export class Intake {
  #received = 0;
  #taken = 0;
  /** Taken over, while an earlier one is not yet. */
  readonly #ahead = new RareSet<number>();

  /** Highest number received without a hole. */
  get received(): number {
    return this.#received;
  }

  /** Highest number up to which everything is taken over. */
  get taken(): number {
    return this.#taken;
  }

  /** Frames that were received and are not taken over yet. */
  get open(): number {
    return this.#received - this.#taken - this.#ahead.size;
  }

  receive(seq: number): 'next' | 'repeated' | 'hole' {
    if (seq <= this.#received) return 'repeated';
    if (seq !== this.#received + 1) return 'hole';
    this.#received = seq;
    return 'next';
  }

  take(seq: number): void {
    if (seq !== this.#taken + 1) {
      this.#ahead.add(seq);
      return;
    }
    this.#taken = seq;
    while (this.#ahead.size > 0 && this.#ahead.delete(this.#taken + 1)) this.#taken++;
  }
}
