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

  has(channel: string): boolean {
    return this.#since.has(channel);
  }

  /**
   * Hears that a channel is wanted. `isNew`: that was not known. `hasHole`: something may have been skipped since then,
   * as the word had to travel, and has to be told.
   */
  learn(channel: string, since: number): { isNew: boolean; hasHole: boolean } {
    const known = this.#since.get(channel);
    if (known !== undefined && known >= since) return { isNew: false, hasHole: false };
    this.#since.set(channel, since);
    const skippedAt = this.#skipped.get(channel)?.at ?? this.#skippedBefore;
    this.#skipped.delete(channel);
    return { isNew: true, hasHole: skippedAt >= since };
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
      for (const oldest of this.#skipped.keys()) {
        this.forgetSkips(oldest);
        break;
      }
    return true;
  }

  /** An event is about to be kept. True when Redis has to be told first that something before it was skipped. */
  isHoleBefore(channel: string): boolean {
    const skips = this.#skipped.get(channel);
    if (!skips) return false;
    this.#skipped.delete(channel);
    return skips.isMore;
  }

  /** What Redis was told of the skips in a channel may be out of date, or have been lost: the next one is told. */
  forgetSkips(channel: string): void {
    this.#skippedBefore = Math.max(this.#skippedBefore, this.#skipped.get(channel)?.at ?? 0);
    this.#skipped.delete(channel);
  }

  /** The same of all channels. */
  forgetAllSkips(): void {
    for (const channel of [...this.#skipped.keys()]) this.forgetSkips(channel);
  }

  clear(): void {
    this.#since.clear();
    this.forgetAllSkips();
  }
}
