import { isDeepStrictEqual } from 'node:util';
import { type CommandUpdate, isTerminalUpdate } from './command.ts';

/** Order of the states; what was told once is not told again. */
const rank = { queued: 1, sent: 2, delivered: 3, started: 4, progress: 4, end: 5 } as const;

/**
 * Lets each update of one command pass once, where they are read anew from the first that is still known: after a
 * lost connection, or at another node. `brief`: the first and the end alone.
 */
export class FreshUpdates {
  readonly #brief: boolean;
  #rank = 0;
  /** Number of the newest item that was told. */
  #items = 0;
  #lastProgress: Extract<CommandUpdate, { state: 'progress' }> | undefined;
  #mayRepeatProgress = false;

  constructor(brief = false) {
    this.#brief = brief;
  }

  /** The reading begins anew: with what is still known, and of progress that is the newest. */
  again(): void {
    this.#mayRepeatProgress = true;
  }

  isFresh(update: CommandUpdate): boolean {
    if (this.#brief && this.#rank > 0 && !isTerminalUpdate(update)) return false;
    if (update.state === 'progress') {
      const { itemNumber } = update.progress;
      if (itemNumber !== undefined) {
        if (itemNumber <= this.#items) return false;
        this.#items = itemNumber;
        this.#rank = Math.max(this.#rank, rank.progress);
        return true;
      }
      const last = this.#lastProgress;
      const isRepeated = this.#mayRepeatProgress && last !== undefined && isDeepStrictEqual(update, last);
      this.#mayRepeatProgress = false;
      if (isRepeated) return false;
      this.#lastProgress = update;
      this.#rank = Math.max(this.#rank, rank.progress);
      return true;
    }
    const place = isTerminalUpdate(update) ? rank.end : rank[update.state];
    if (place <= this.#rank) return false;
    this.#rank = place;
    return true;
  }
}
