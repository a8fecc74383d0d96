import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Deque } from '../../src/flow/deque.ts';
import { PushStream } from '../../src/flow/push-stream.ts';

test('a deque does what an array does', () => {
  const operation = fc.oneof(
    fc.record({ kind: fc.constant('push'), value: fc.nat(9) }),
    fc.record({ kind: fc.constant('shift'), value: fc.constant(0) }),
    fc.record({ kind: fc.constant('remove'), value: fc.nat(9) }),
    fc.record({ kind: fc.constant('unshift'), value: fc.nat(9) }),
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 800 }), (operations) => {
      const deque = new Deque<number>();
      let model: number[] = [];
      for (const { kind, value } of operations) {
        if (kind === 'push') {
          deque.push(value);
          model.push(value);
        } else if (kind === 'shift') expect(deque.shift()).toBe(model.shift());
        else if (kind === 'unshift') {
          deque.unshift([value, value + 1]);
          model = [value, value + 1, ...model];
        } else {
          const index = model.indexOf(value);
          expect(deque.remove(value)).toBe(index >= 0);
          if (index >= 0) model.splice(index, 1);
        }
        expect(deque.size).toBe(model.length);
        expect(deque.first).toBe(model[0]);
      }
      expect([...deque]).toEqual(model);
    }),
    { numRuns: 50 },
  );
});

test('what is taken from the middle of a deque leaves no place behind', () => {
  const deque = new Deque<number>();
  for (const value of [1, 2, 3, 4]) deque.push(value);
  expect([deque.remove(2), deque.remove(3), deque.remove(7)]).toEqual([true, true, false]);
  expect([...deque]).toEqual([1, 4]);
  deque.push(5);
  expect([deque.size, deque.shift(), deque.shift(), deque.shift(), deque.shift()]).toEqual([3, 1, 4, 5, undefined]);
});

test('a push stream gives what was pushed, in order, then its end or its error', async () => {
  const stream = new PushStream<number>();
  const early = stream.next();
  for (let i = 0; i < 200; i++) stream.push(i);
  expect(await early).toEqual({ value: 0, done: false });
  expect(stream.buffered).toBe(199);
  stream.fail(new Error('broken'));
  stream.push(999);
  const read: number[] = [];
  await expect(
    (async () => {
      for await (const item of stream) read.push(item);
    })(),
  ).rejects.toThrow('broken');
  expect(read).toEqual(Array.from({ length: 199 }, (_, i) => i + 1));
  expect(await stream.next()).toEqual({ value: undefined, done: true });
});

test('leaving a push stream wakes its reader, drops the rest and tells its writer once', async () => {
  const stream = new PushStream<number>();
  let left = 0;
  stream.onReturn = () => left++;
  const waiting = stream.next();
  await stream.return();
  await stream.return();
  expect(await waiting).toEqual({ value: undefined, done: true });
  expect(left).toBe(1);
  stream.push(1);
  expect(stream.buffered).toBe(0);
});
