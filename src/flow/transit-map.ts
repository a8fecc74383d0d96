import { hashOf } from './hash.ts';

/** So many entries are found sooner by looking at each. */
const mostInRow = 8;
const leastSlots = 32;
/** A larger table is given back once it is empty. */
const keptSlots = 1024;

/**
 * A map for entries that come and go all the time. A `Map` makes itself a new table every so often, to which the old one
 * points; one old table that the garbage collector took for long-lived keeps all tables after it, with all that ever
 * was in them, until the next full collection. So with a `Map`, a command that lives for a millisecond would be copied
 * twice and collected last. Here a table is changed where it is; a few entries need none, and stand in a row.
 * Who has a key's `hash` (of `hashOf`) may give it.
 */
export class TransitMap<T> {
  #keys: (string | undefined)[] = [];
  #values: (T | undefined)[] = [];
  #table: Table | undefined;
  #size = 0;
  readonly #hashOf: (key: string) => number;

  constructor(hash: (key: string) => number = hashOf) {
    this.#hashOf = hash;
  }

  get size(): number {
    return this.#size;
  }

  get(key: string, hash?: number): T | undefined {
    const slot = this.#find(key, hash);
    return slot < 0 ? undefined : this.#values[slot];
  }

  has(key: string): boolean {
    const slot = this.#find(key);
    return slot >= 0 && this.#keys[slot] !== undefined;
  }

  /** A known key keeps its place in the order. */
  set(key: string, value: T, hash?: number): void {
    let slot = this.#find(key, hash);
    if (slot < 0 && this.#size < mostInRow) {
      this.#keys.push(key);
      this.#values.push(value);
      this.#size++;
      return;
    }
    if (slot < 0) {
      this.#spread(leastSlots);
      slot = this.#find(key, hash);
    }
    this.#values[slot] = value;
    if (this.#table === undefined || this.#keys[slot] !== undefined) return;
    this.#keys[slot] = key;
    this.#table.hashes[slot] = hash ?? this.#hashOf(key);
    this.#table.numbers[slot] = ++this.#table.came;
    this.#size++;
    if (this.#size * 2 > this.#keys.length) this.#spread(2 * this.#keys.length);
  }

  /** Gives what was there. */
  delete(key: string, hash?: number): T | undefined {
    const slot = this.#find(key, hash);
    if (slot < 0 || this.#keys[slot] === undefined) return undefined;
    const value = this.#values[slot];
    this.#size--;
    if (this.#table !== undefined) this.#close(slot, this.#table);
    else if (slot === this.#size) {
      this.#keys.pop();
      this.#values.pop();
    } else {
      this.#keys.splice(slot, 1);
      this.#values.splice(slot, 1);
    }
    if (this.#size === 0 && this.#keys.length > keptSlots) {
      this.#keys = [];
      this.#values = [];
      this.#table = undefined;
    }
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
    for (let slot = 0; slot < this.#keys.length; slot++) if (this.#keys[slot] !== undefined) slots.push(slot);
    const numbers = this.#table?.numbers;
    return numbers ? slots.sort((a, b) => numbers[a]! - numbers[b]!) : slots;
  }

  /** Where the key is. Otherwise -1 in a row, and in a table the free slot where it belongs. */
  #find(key: string, hash?: number): number {
    const keys = this.#keys;
    if (this.#table === undefined) {
      for (let at = 0; at < keys.length; at++) if (keys[at] === key) return at;
      return -1;
    }
    const { hashes } = this.#table;
    const last = keys.length - 1;
    const sought = hash ?? this.#hashOf(key);
    let slot = sought & last;
    for (; keys[slot] !== undefined; slot = (slot + 1) & last) if (hashes[slot] === sought && keys[slot] === key) break;
    return slot;
  }

  /** Empties a slot of the table: who stands behind moves up, unless that would be before the place where it belongs. */
  #close(slot: number, { hashes, numbers }: Table): void {
    const last = this.#keys.length - 1;
    let hole = slot;
    for (let next = (hole + 1) & last; this.#keys[next] !== undefined; next = (next + 1) & last) {
      const away = (next - hashes[next]!) & last;
      if (away < ((next - hole) & last)) continue;
      this.#keys[hole] = this.#keys[next];
      this.#values[hole] = this.#values[next];
      hashes[hole] = hashes[next]!;
      numbers[hole] = numbers[next]!;
      hole = next;
    }
    this.#keys[hole] = undefined;
    this.#values[hole] = undefined;
  }

  /** Puts all into a table of so many slots, a power of two. */
  #spread(slots: number): void {
    const keys = this.#keys;
    const values = this.#values;
    const old = this.#table;
    this.#keys = new Array<string | undefined>(slots).fill(undefined);
    this.#values = new Array<T | undefined>(slots).fill(undefined);
    const table = { hashes: new Int32Array(slots), numbers: new Float64Array(slots), came: old?.came ?? keys.length };
    this.#table = table;
    for (let from = 0; from < keys.length; from++) {
      const key = keys[from];
      if (key === undefined) continue;
      const hash = old?.hashes[from] ?? this.#hashOf(key);
      const slot = this.#find(key, hash);
      this.#keys[slot] = key;
      this.#values[slot] = values[from];
      table.hashes[slot] = hash;
      table.numbers[slot] = old?.numbers[from] ?? from;
    }
  }
}

interface Table {
  readonly hashes: Int32Array;
  /** The order of coming. */
  readonly numbers: Float64Array;
  came: number;
}
