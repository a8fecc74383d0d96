/** Channels of which a shard remembers that something was skipped. */
const maxSkipped = 20_000;

/**
 * What one node knows of the interest in the channels of a shard, and what it has skipped there because nobody seemed
 * to be interested. All times are the server's, in ms.
 */
export class ChannelInterest {
  /** Since when each channel is wanted. */
  readonly #since = new Map<string, number>();
  /** When something was last skipped in a channel, since Redis was told that something was. */
  readonly #skipped = new Map<string, number>();
  /** The same for channels that are not remembered any more. */
  #skippedBefore = 0;

  has(channel: string): boolean {
    return this.#since.has(channel);
  }

  /**
   * Hears that a channel is wanted. `isNew`: that was not known. `hasHole`: something may have been skipped since then,
   * as the word had to travel, and has to be told.
   */
  learn(channel: string, since: number): { isNew: boolean; hasHole: boolean } {
    if (this.#since.get(channel) === since) return { isNew: false, hasHole: false };
    this.#since.set(channel, since);
    const skippedAt = this.#skipped.get(channel) ?? this.#skippedBefore;
    this.#skipped.delete(channel);
    return { isNew: true, hasHole: skippedAt >= since };
  }

  /** Takes over who is wanted now; the others are not any more. */
  replace(wanted: ReadonlyMap<string, number>): void {
    for (const channel of this.#since.keys()) if (!wanted.has(channel)) this.#since.delete(channel);
  }

  /** Something is skipped. True when Redis has to be told: it is the first time since it was. */
  skip(channel: string, at: number): boolean {
    const isFirst = !this.#skipped.has(channel);
    this.#skipped.set(channel, at);
    if (this.#skipped.size > maxSkipped)
      for (const [oldest, time] of this.#skipped) {
        this.#skipped.delete(oldest);
        this.#skippedBefore = Math.max(this.#skippedBefore, time);
        break;
      }
    return isFirst;
  }

  /** What Redis was told may be out of date: it has to be told again. */
  doubtSkips(channels: Iterable<string> = this.#skipped.keys()): void {
    for (const channel of [...channels]) {
      this.#skippedBefore = Math.max(this.#skippedBefore, this.#skipped.get(channel) ?? 0);
      this.#skipped.delete(channel);
    }
  }

  clear(): void {
    this.#since.clear();
    this.doubtSkips();
  }
}
