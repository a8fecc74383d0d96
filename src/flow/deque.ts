/** An array that ran empty is used again unless it grew beyond this. */
const keptCapacity = 256;

/** First in, first out, with cheap ends and removal by value. */
export class Deque<T> {
  #items: (T | undefined)[] = [];
  #head = 0;
  #tail = 0;

  get size(): number {
    return this.#tail - this.#head;
  }

  get first(): T | undefined {
    return this.#head === this.#tail ? undefined : this.#items[this.#head];
  }

  push(item: T): void {
    this.#items[this.#tail++] = item;
  }

  shift(): T | undefined {
    if (this.#head === this.#tail) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#tail) {
      if (this.#items.length > keptCapacity) this.#items = [];
      this.#head = 0;
      this.#tail = 0;
    } else if (this.#head >= keptCapacity && this.#head * 2 > this.#tail) this.#take(this.#inOrder());
    return item;
  }

  /** Puts items before all others, in their order. */
  unshift(items: readonly T[]): void {
    this.#take([...items, ...this.#inOrder()]);
  }

  /** Takes one item out, wherever it is. Costs a search. */
  remove(item: T): boolean {
    for (let at = this.#head; at < this.#tail; at++) {
      if (this.#items[at] !== item) continue;
      if (at === this.#head) this.shift();
      else {
        this.#items.splice(at, 1);
        this.#tail--;
      }
      return true;
    }
    return false;
  }

  /** The item this many places behind the first; undefined where there is none. */
  at(index: number): T | undefined {
    return index >= 0 && index < this.size ? this.#items[this.#head + index] : undefined;
  }

  /** Puts `item` where another one is, this many places behind the first. */
  replace(index: number, item: T): void {
    if (index >= 0 && index < this.size) this.#items[this.#head + index] = item;
  }

  clear(): void {
    this.#take([]);
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let at = this.#head; at < this.#tail; at++) yield this.#items[at] as T;
  }

  #inOrder(): T[] {
    return this.#items.slice(this.#head, this.#tail) as T[];
  }

  #take(items: T[]): void {
    this.#items = items;
    this.#head = 0;
    this.#tail = items.length;
  }
}
