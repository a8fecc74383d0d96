import { hashOf } from '../../flow/hash.ts';
import {
  beginPacking,
  beginUnpacking,
  endPacking,
  isPackedText,
  packBytes,
  packCount,
  packText,
  unpackBytes,
  unpackCount,
  unpackText,
} from '../../flow/packing.ts';
import type { JournalEntry } from './journal.ts';

const leastSlots = 16;
const firstPageBytes = 512;
const pageBytes = 4096;
/** Larger results are kept by themselves, to be let go of one by one. In bytes. */
const largestPacked = 256;

/**
 * What a journal remembers of commands whose results the hub has: the newest `maxEntries`, and of their results the newest
 * `maxResultBytes`. Kept as bytes (see `packing.ts`), as a device does nothing with them but find an id now and then.
 */
export class AcknowledgedEntries {
  readonly #maxEntries: number;
  readonly #maxResultBytes: number;
  // By age: entry number n is in slot n % slots.
  #slots = leastSlots;
  readonly #pages: (Uint8Array | undefined)[] = [];
  readonly #large: (Uint8Array | undefined)[] = [];
  #offsets = new Int32Array(leastSlots);
  #hashes = new Int32Array(leastSlots);
  /** Bytes of the result that is kept; -1 for none. */
  #weights = new Int32Array(leastSlots);
  /** By hash of the id: slot + 1, and 0 where nothing is. Twice as long as there are slots. */
  #table = new Int32Array(2 * leastSlots);
  #oldest = 0;
  #next = 0;
  /** The oldest entry whose result may be kept. */
  #answered = 0;
  #resultBytes = 0;
  #page: Uint8Array | undefined;
  #used = 0;

  constructor(maxEntries: number, maxResultBytes: number) {
    this.#maxEntries = maxEntries;
    this.#maxResultBytes = maxResultBytes;
  }

  get(commandId: string): JournalEntry | undefined {
    const name = nameOf(commandId);
    const slot = this.#table[this.#find(name, hashOf(name))]! - 1;
    return slot < 0 ? undefined : this.#entryAt(slot);
  }

  add(commandId: string, idempotent: boolean, result: Uint8Array | undefined): void {
    if (this.#next - this.#oldest === this.#slots) this.#widen();
    const name = nameOf(commandId);
    const hash = hashOf(name);
    const slot = this.#next++ % this.#slots;
    this.#write(slot, name, idempotent, result);
    this.#hashes[slot] = hash;
    this.#weights[slot] = result?.length ?? -1;
    this.#resultBytes += result?.length ?? 0;
    const at = this.#find(name, hash);
    if (this.#table[at] !== 0) this.#dropResult(this.#table[at]! - 1);
    this.#table[at] = slot + 1;
    while (this.#next - this.#oldest > this.#maxEntries) this.#forgetOldest();
    while (this.#resultBytes > this.#maxResultBytes) this.#dropResult(this.#answered++ % this.#slots);
  }

  /** Oldest first. */
  all(): JournalEntry[] {
    const entries: JournalEntry[] = [];
    for (let number = this.#oldest; number < this.#next; number++) {
      const slot = number % this.#slots;
      const entry = this.#entryAt(slot);
      // One that was acknowledged again is only told at its newest place.
      if (this.#table[this.#find(nameOf(entry.commandId), this.#hashes[slot]!)] === slot + 1) entries.push(entry);
    }
    return entries;
  }

  #entryAt(slot: number): JournalEntry {
    beginUnpacking(this.#pages[slot]!, this.#offsets[slot]!);
    const commandId = idOf(unpackText());
    const idempotent = unpackCount() === 1;
    const hasResult = this.#weights[slot]! >= 0;
    const result = hasResult ? (this.#large[slot] ?? unpackBytes()) : undefined;
    return { commandId, idempotent, state: 'acknowledged', result };
  }

  #write(slot: number, name: string, idempotent: boolean, result: Uint8Array | undefined): void {
    const isLarge = result !== undefined && result.length > largestPacked;
    this.#large[slot] = isLarge ? result : undefined;
    const inPage = isLarge ? undefined : result;
    let page = this.#page ?? new Uint8Array(firstPageBytes);
    let end = pack(page, this.#used, name, idempotent, inPage);
    if (end === 0) {
      page = new Uint8Array(Math.max(pageBytes, 2 * name.length));
      this.#used = 0;
      end = pack(page, 0, name, idempotent, inPage);
    }
    this.#page = page;
    this.#pages[slot] = page;
    this.#offsets[slot] = this.#used;
    this.#used = end;
  }

  #dropResult(slot: number): void {
    this.#resultBytes -= Math.max(0, this.#weights[slot]!);
    this.#weights[slot] = -1;
    this.#large[slot] = undefined;
  }

  #forgetOldest(): void {
    const slot = this.#oldest++ % this.#slots;
    this.#answered = Math.max(this.#answered, this.#oldest);
    this.#dropResult(slot);
    this.#pages[slot] = undefined;
    let hole = this.#home(this.#hashes[slot]!);
    const last = this.#table.length - 1;
    while (this.#table[hole] !== slot + 1) {
      // A newer entry has its place.
      if (this.#table[hole] === 0) return;
      hole = (hole + 1) & last;
    }
    for (let next = (hole + 1) & last; this.#table[next] !== 0; next = (next + 1) & last) {
      const away = (next - this.#home(this.#hashes[this.#table[next]! - 1]!)) & last;
      if (away < ((next - hole) & last)) continue;
      this.#table[hole] = this.#table[next]!;
      hole = next;
    }
    this.#table[hole] = 0;
  }

  #home(hash: number): number {
    return hash & (this.#table.length - 1);
  }

  /** Where in the table the id is, or belongs. */
  #find(name: string, hash: number): number {
    let at = this.#home(hash);
    for (; this.#table[at] !== 0; at = (at + 1) & (this.#table.length - 1)) {
      const slot = this.#table[at]! - 1;
      if (this.#hashes[slot] === hash && isPackedText(this.#pages[slot]!, this.#offsets[slot]!, name)) break;
    }
    return at;
  }

  /** Doubles the room; each entry keeps its slot, as none is forgotten before there is room for all that are kept. */
  #widen(): void {
    this.#slots *= 2;
    this.#offsets = widened(this.#offsets);
    this.#hashes = widened(this.#hashes);
    this.#weights = widened(this.#weights);
    const entries = this.#table;
    this.#table = new Int32Array(2 * entries.length);
    for (const entry of entries) {
      if (entry === 0) continue;
      let at = this.#home(this.#hashes[entry - 1]!);
      while (this.#table[at] !== 0) at = (at + 1) & (this.#table.length - 1);
      this.#table[at] = entry;
    }
  }
}

function widened(old: Int32Array): Int32Array<ArrayBuffer> {
  const ints = new Int32Array(2 * old.length);
  ints.set(old);
  return ints;
}

/** The end of what was written; 0 where there is no room. */
function pack(page: Uint8Array, at: number, name: string, idempotent: boolean, result: Uint8Array | undefined): number {
  beginPacking(page, at);
  packText(name);
  packCount(idempotent ? 1 : 0);
  if (result !== undefined) packBytes(result);
  return endPacking();
}

// Our hubs' ids are plain; what another one makes up is written as the bytes of its UTF-8, behind a mark.
const mark = '\u00ff';

const nameOf = (id: string): string => (isPlain(id) ? id : mark + Buffer.from(id).toString('latin1'));

function isPlain(id: string): boolean {
  let all = 0;
  for (let i = 0; i < id.length; i++) all |= id.charCodeAt(i);
  return all < 0x80;
}

const idOf = (name: string): string => (name.startsWith(mark) ? Buffer.from(name.slice(1), 'latin1').toString() : name);
