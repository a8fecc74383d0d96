import { expect, test } from 'vitest';
import { rollUp } from '../../src/tasks/roll-up.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';

async function all(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** A source that yields what it is given, when it is given it. */
function tap<T>() {
  const waiting: ((step: IteratorResult<T>) => void)[] = [];
  const items: IteratorResult<T>[] = [];
  let hasReturned = false;
  const push = (step: IteratorResult<T>): void => {
    const next = waiting.shift();
    if (next) next(step);
    else items.push(step);
  };
  return {
    give: (value: T) => push({ value, done: false }),
    end: () => push({ value: undefined, done: true }),
    get hasReturned() {
      return hasReturned;
    },
    [Symbol.asyncIterator]: () => ({
      next: () =>
        items.length > 0
          ? Promise.resolve(items.shift()!)
          : new Promise<IteratorResult<T>>((resolve) => waiting.push(resolve)),
      return: () => {
        hasReturned = true;
        return Promise.resolve({ value: undefined, done: true as const });
      },
    }),
  };
}

test('the first text goes out at once, what follows within the window goes as one', async () => {
  const clock = virtualClock();
  const source = tap<unknown>();
  const seen: unknown[] = [];
  const done = (async () => {
    for await (const item of rollUp(source, { windowMs: 40, clock })) seen.push(item);
  })();
  await clock.advance(100);
  source.give('a');
  await clock.advance(1);
  expect(seen).toEqual(['a']);
  for (const text of ['b', 'c', 'd']) {
    source.give(text);
    await clock.advance(10);
  }
  expect(seen).toEqual(['a']);
  await clock.advance(10);
  expect(seen).toEqual(['a', 'bcd']);
  source.give('e');
  await clock.advance(1);
  // A window begins with each text that goes out.
  expect(seen).toEqual(['a', 'bcd']);
  source.give({ not: 'text' });
  source.give('f');
  source.end();
  await clock.advance(0);
  await done;
  expect(seen).toEqual(['a', 'bcd', 'e', { not: 'text' }, 'f']);
});

test('without a window each goes by itself, and a window that is none is refused', async () => {
  expect(await all(rollUp(['a', 'b'], { windowMs: 0 }))).toEqual(['a', 'b']);
  await expect(all(rollUp(['a'], { windowMs: 501 }))).rejects.toThrow('501 ms: it has to be 0 to 500');
});

test('nothing is lost and nothing is reordered, however it is cut', async () => {
  const clock = virtualClock();
  async function* tokens() {
    for (let i = 0; i < 1000; i++) {
      if (i % 7 === 0) await new Promise<void>((resolve) => clock.after(i % 50, resolve));
      yield `${i} `;
    }
  }
  let hasEnded = false;
  const reading = all(rollUp(tokens(), { clock, maxLength: 100 })).finally(() => {
    hasEnded = true;
  });
  while (!hasEnded) await clock.advance(10);
  const parts = (await reading) as string[];
  expect(parts.join('')).toBe(Array.from({ length: 1000 }, (_, i) => `${i} `).join(''));
  expect(parts.length).toBeLessThan(300);
});

test('what was said before the source failed is said, and then it fails', async () => {
  async function* source() {
    yield 'a';
    yield 'b';
    throw new Error('cut');
  }
  const seen: unknown[] = [];
  const reading = (async () => {
    for await (const item of rollUp(source(), { windowMs: 500 })) seen.push(item);
  })();
  await expect(reading).rejects.toThrow('cut');
  expect(seen.join('')).toBe('ab');
});

test('leaving lets go of the source', async () => {
  const source = tap<string>();
  source.give('a');
  for await (const _ of rollUp(source)) break;
  expect(source.hasReturned).toBe(true);
});
