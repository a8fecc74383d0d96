/**
 * An async iterable that is written to from outside. It buffers what is not read yet; its writer holds the limit by
 * looking at `buffered`. One reader. Leaving the loop calls `onReturn` once and drops the rest.
 */
export class PushStream<T> implements AsyncIterableIterator<T> {
  #items: T[] = [];
  #head = 0;
  #state: 'open' | 'ended' | 'failed' | 'left' = 'open';
  #error: unknown;
  #waiting: { resolve: (result: IteratorResult<T, undefined>) => void; reject: (error: unknown) => void } | undefined;
  onReturn: (() => void) | undefined;

  /** Items that wait to be read. */
  get buffered(): number {
    return this.#items.length - this.#head;
  }

  /** False once ended, failed or left: nothing that is pushed will be read. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** The newest item that waits to be read. */
  get newest(): T | undefined {
    return this.#items.length > this.#head ? this.#items[this.#items.length - 1] : undefined;
  }

  push(item: T): void {
    if (this.#state !== 'open') return;
    const waiting = this.#waiting;
    if (waiting) {
      this.#waiting = undefined;
      waiting.resolve({ value: item, done: false });
    } else this.#items.push(item);
  }

  /** Puts `item` in the place of the newest waiting one. */
  replaceNewest(item: T): void {
    if (this.buffered > 0) this.#items[this.#items.length - 1] = item;
    else this.push(item);
  }

  /** Ends the iteration after what is buffered. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#waiting?.resolve({ value: undefined, done: true });
    this.#waiting = undefined;
  }

  /** Ends the iteration with an error after what is buffered. */
  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    this.#error = error;
    if (!this.#waiting) return;
    this.#waiting.reject(error);
    this.#waiting = undefined;
    this.#state = 'ended';
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#head < this.#items.length) {
      const value = this.#items[this.#head] as T;
      this.#items[this.#head++] = undefined as T;
      if (this.#head === this.#items.length) {
        this.#items.length = 0;
        this.#head = 0;
      } else if (this.#head >= 64 && this.#head * 2 > this.#items.length) {
        this.#items.splice(0, this.#head);
        this.#head = 0;
      }
      return Promise.resolve({ value, done: false });
    }
    if (this.#state === 'failed') {
      this.#state = 'ended';
      return Promise.reject(this.#error);
    }
    if (this.#state !== 'open') return Promise.resolve({ value: undefined, done: true });
    if (this.#waiting) return Promise.reject(new Error('next() called again before the first one was answered'));
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#state = 'left';
    this.#items.length = 0;
    this.#head = 0;
    this.#waiting?.resolve({ value: undefined, done: true });
    this.#waiting = undefined;
    const onReturn = this.onReturn;
    this.onReturn = undefined;
    onReturn?.();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
