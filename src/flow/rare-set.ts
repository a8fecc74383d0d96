/** A set that is empty most of the time, and then is nothing but this object: a `Set` has a table from the start. */
export class RareSet<T> {
  #items: Set<T> | undefined;

  constructor(items: readonly T[] = []) {
    if (items.length > 0) this.#items = new Set(items);
  }

  get size(): number {
    return this.#items?.size ?? 0;
  }

  has(item: T): boolean {
    return this.#items?.has(item) ?? false;
  }

  add(item: T): void {
    this.#items ??= new Set();
    this.#items.add(item);
  }

  /** Whether it was there. */
  delete(item: T): boolean {
    if (this.#items === undefined || !this.#items.delete(item)) return false;
    if (this.#items.size === 0) this.#items = undefined;
    return true;
  }

  *[Symbol.iterator](): IterableIterator<T> {
    if (this.#items !== undefined) yield* this.#items;
  }
}
