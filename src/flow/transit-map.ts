import { hashOf } from './hash.ts';

const leastSlots = 16;
/** A larger table is given back once it is empty. */
const keptSlots = 1024;

/**
 * A map for entries that come and go all the time. A `Map` makes itself a new table every so often, to which the old one
 * points; one old table that the garbage collector took for long-lived keeps all tables after it, with all that ever
 * was in them, until the next full collection. So with a `Map`, a command that lives for a millisecond would be copied
 * twice and collected last. Here a table is changed where it is. Who has a key's `hash` (of `hashOf`) may give it.
 */
export class TransitMap<T> {
  #keys: (string | undefined)[] = [];
  #values: (T | undefined)[] = [];
  #hashes = new Int32Array();
  /** The order of coming. */
  #numbers = new Float64Array();
  #last = -1;
  #came = 0;
  #size = 0;

  constructor() {
    this.#resize(leastSlots);
  }

  get size(): number {
    return this.#size;
  }

  get(key: string, hash: number = hashOf(key)): T | undefined {
    return this.#values[this.#find(key, hash)];
  }

  has(key: string): boolean {
    return this.#keys[this.#find(key, hashOf(key))] !== undefined;
  }

  /** A known key keeps its place in the order. */
  set(key: string, value: T, hash: number = hashOf(key)): void {
    const slot = this.#find(key, hash);
    if (this.#keys[slot] === undefined) {
      this.#keys[slot] = key;
      this.#hashes[slot] = hash;
      this.#numbers[slot] = ++this.#came;
      this.#size++;
    }
    this.#values[slot] = value;
    if (this.#size * 2 > this.#last) this.#resize(2 * (this.#last + 1));
  }

  /** Gives what was there. */
  delete(key: string, hash: number = hashOf(key)): T | undefined {
    let hole = this.#find(key, hash);
    if (this.#keys[hole] === undefined) return undefined;
    const value = this.#values[hole];
    // Who stands behind moves up, unless that would be before the place where it belongs.
    for (let next = (hole + 1) & this.#last; this.#keys[next] !== undefined; next = (next + 1) & this.#last) {
      const away = (next - this.#hashes[next]!) & this.#last;
      if (away < ((next - hole) & this.#last)) continue;
      this.#keys[hole] = this.#keys[next];
      this.#values[hole] = this.#values[next];
      this.#hashes[hole] = this.#hashes[next]!;
      this.#numbers[hole] = this.#numbers[next]!;
      hole = next;
    }
    this.#keys[hole] = undefined;
    this.#values[hole] = undefined;
    this.#size--;
    if (this.#size === 0 && this.#last >= keptSlots) this.#resize(leastSlots);
    return value;
  }

  /** As they came. */
  values(): T[] {
    return this.#slots().map((slot) => this.#values[slot] as T);
  }

  /** As they came. */
  keys(): string[] {
    return this.#slots().map((slot) => this.#keys[slot] as string);
  }

  #slots(): number[] {
    const slots: number[] = [];
    for (let slot = 0; slot <= this.#last; slot++) if (this.#keys[slot] !== undefined) slots.push(slot);
    return slots.sort((a, b) => this.#numbers[a]! - this.#numbers[b]!);
  }

  /** Where the key is, or the free slot where it belongs. */
  #find(key: string, hash: number): number {
    let slot = hash & this.#last;
    for (; this.#keys[slot] !== undefined; slot = (slot + 1) & this.#last)
      if (this.#hashes[slot] === hash && this.#keys[slot] === key) break;
    return slot;
  }

  #resize(slots: number): void {
    const keys = this.#keys;
    const values = this.#values;
    const hashes = this.#hashes;
    const numbers = this.#numbers;
    this.#keys = new Array<string | undefined>(slots).fill(undefined);
    this.#values = new Array<T | undefined>(slots).fill(undefined);
    this.#hashes = new Int32Array(slots);
    this.#numbers = new Float64Array(slots);
    this.#last = slots - 1;
    for (let from = 0; from < keys.length; from++) {
      const key = keys[from];
      if (key === undefined) continue;
      const slot = this.#find(key, hashes[from]!);
      this.#keys[slot] = key;
      this.#values[slot] = values[from];
      this.#hashes[slot] = hashes[from]!;
      this.#numbers[slot] = numbers[from]!;
    }
  }
}
