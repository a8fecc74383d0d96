/**
 * Maps an iterable item by item. Unlike a generator, its `return()` reaches the source at once, even while an item is
 * waited for: leaving a stream must not wait for the stream.
 */
export function mapIterable<T, U>(source: AsyncIterable<T>, map: (item: T) => U): AsyncIterable<U> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = source[Symbol.asyncIterator]();
      return {
        async next() {
          const step = await iterator.next();
          return step.done ? { value: undefined, done: true } : { value: map(step.value), done: false };
        },
        async return() {
          await iterator.return?.();
          return { value: undefined, done: true };
        },
      };
    },
  };
}
