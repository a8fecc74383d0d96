/** Channels of which a shard remembers that something was skipped. */
const maxSkipped = 20_000;
/** Redis is told again after this long: somebody else may have told the hole to readers since. */
const repeatMs = 5000;

interface Skips {
  /** When something was last skipped. */
  at: number;
  /** When Redis was told that something is. */
  toldAt: number;
  /** Something was skipped after that. */
  isMore: boolean;
}

/**
 * What one node knows of the interest in the channels of a shard, and what it has skipped there because nobody seemed
 * to be interested. All times are the server's, in ms.
 */
export class ChannelInterest {
  /** Since when each channel is wanted. */
  readonly #since = new Map<string, number>();
  readonly #skipped = new Map<string, Skips>();
  /** When something was last skipped in channels that are not remembered any more. */
  #skippedBefore = 0;
  /** The channel that was forgotten last, if Redis does not know of all that was skipped there. */
  #untold: string | undefined;

  has(channel: string): boolean {
    return this.#since.has(channel);
  }

  /**
   * Hears that a channel is wanted. `isNew`: that was not known. `hasHole`: something may have been skipped that has to
   * be told: since then, as the word had to travel; or before, and Redis has told of no hole when the interest began (a
   * half says that it has): another node's event had used up what this one had said of its first skip.
   */
  learn(channel: string, since: number): { isNew: boolean; hasHole: boolean } {
    const known = this.#since.get(channel);
    if (known !== undefined && known >= since) return { isNew: false, hasHole: false };
    this.#since.set(channel, since);
    const skips = this.#skipped.get(channel);
    this.#skipped.delete(channel);
    const isTold = !Number.isInteger(since);
    const hasHole = (skips?.at ?? this.#skippedBefore) >= Math.floor(since) || (skips?.isMore === true && !isTold);
    return { isNew: true, hasHole };
  }

  /** Takes over who is wanted now; the others are not any more. */
  replace(wanted: ReadonlyMap<string, number>): void {
    for (const channel of this.#since.keys()) if (!wanted.has(channel)) this.#since.delete(channel);
  }

  /** Something is skipped. True when Redis has to be told. */
  skip(channel: string, at: number): boolean {
    const skips = this.#skipped.get(channel);
    if (skips && at - skips.toldAt < repeatMs) {
      skips.at = at;
      skips.isMore = true;
      return false;
    }
    this.#skipped.delete(channel);
    this.#skipped.set(channel, { at, toldAt: at, isMore: false });
    if (this.#skipped.size > maxSkipped)
      for (const [oldest, skips] of this.#skipped) {
        this.#skippedBefore = Math.max(this.#skippedBefore, skips.at);
        if (skips.isMore) this.#untold = oldest;
        this.#skipped.delete(oldest);
        break;
      }
    return true;
  }

  /** The channel that the last skip took the place of, where Redis has to be told of that one, too. */
  takeUntold(): string | undefined {
    const untold = this.#untold;
    this.#untold = undefined;
    return untold;
  }

  /** An event is about to be kept. True when Redis has to be told first that something before it was skipped. */
  isHoleBefore(channel: string): boolean {
    const skips = this.#skipped.get(channel);
    if (!skips) return false;
    this.#skipped.delete(channel);
    return skips.isMore;
  }

  /** What Redis was told of the skips in a channel may be out of date, or have been lost: it is told again. */
  doubt(channel: string): void {
    const skips = this.#skipped.get(channel);
    if (!skips) return;
    skips.toldAt = Number.NEGATIVE_INFINITY;
    skips.isMore = true;
  }

  /** The same of all channels. */
  doubtAll(): void {
    for (const channel of this.#skipped.keys()) this.doubt(channel);
  }

  clear(): void {
    this.#since.clear();
    this.doubtAll();
  }
}
