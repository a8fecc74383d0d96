import { Deque } from '../flow/deque.ts';
import type { StepSource } from './event-log.ts';

/** The first page is small: most channels never fill it. In bytes. */
const firstPageBytes = 512;
const pageBytes = 4096;

/** A page that took nothing more. */
interface FullPage {
  readonly page: Uint8Array;
  /** Number of the newest event of what is in it. */
  readonly last: number;
}

/**
 * Where one channel packs sources that are over. The oldest page is written anew once its events have left the ring: what
 * is made for a while and then dropped is all that the collector of old objects would ever run for.
 */
export class PackedPages {
  #page: Uint8Array = new Uint8Array(firstPageBytes);
  #used = 0;
  #last = 0;
  /** Oldest first. */
  readonly #full = new Deque<FullPage>();

  /** Where it was written newest. */
  get page(): Uint8Array {
    return this.#page;
  }

  /** Packs a source whose newest event is `last`, while the ring begins with `first`. Where it is in `page`; -1: it does not fit. */
  write(source: StepSource, first: number, last: number): number {
    let at = this.#used;
    let end = source.pack(this.#page, at);
    if (end === 0) {
      const next = this.#next(first);
      at = 0;
      end = source.pack(next, at);
      if (end === 0) return -1;
      // The small one is kept by its entries alone.
      if (this.#page.length === pageBytes) this.#full.push({ page: this.#page, last: this.#last });
      this.#page = next;
    }
    this.#used = (end + 7) & ~7;
    this.#last = last;
    return at;
  }

  /** Lets go of all pages but one whose events have left the ring, which begins with `first`. */
  trim(first: number): void {
    for (let next = this.#full.at(1); next !== undefined && next.last < first; next = this.#full.at(1))
      this.#full.shift();
  }

  #next(first: number): Uint8Array {
    const oldest = this.#full.first;
    if (oldest === undefined || oldest.last >= first) return new Uint8Array(pageBytes);
    this.#full.shift();
    return oldest.page;
  }
}
