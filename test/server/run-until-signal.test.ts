import { expect, onTestFinished, test, vi } from 'vitest';
import { runUntilSignal } from '../../src/server/index.ts';

const listeners = (): number => process.listenerCount('SIGTERM') + process.listenerCount('SIGINT');

test('one signal closes the server and lets go of the listeners', async () => {
  const before = listeners();
  const heard: string[] = [];
  let isClosed = false;
  const ended = runUntilSignal(
    {
      close: async () => {
        isClosed = true;
      },
    },
    { onSignal: (signal) => heard.push(signal) },
  );
  process.emit('SIGTERM', 'SIGTERM');
  expect(await ended).toBe('drained');
  expect({ isClosed, heard }).toEqual({ isClosed: true, heard: ['SIGTERM'] });
  expect(listeners()).toBe(before);
});

test('a second signal does not wait for a close that takes long; its echo is not a second one', async () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(1000);
  onTestFinished(() => now.mockRestore());
  const before = listeners();
  let isOver = false;
  const ended = runUntilSignal({ close: () => new Promise(() => undefined) }).finally(() => {
    isOver = true;
  });
  process.emit('SIGINT', 'SIGINT');
  process.emit('SIGINT', 'SIGINT');
  await new Promise(setImmediate);
  expect(isOver).toBe(false);
  now.mockReturnValue(2000);
  process.emit('SIGTERM', 'SIGTERM');
  expect(await ended).toBe('forced');
  expect(listeners()).toBe(before);
});

test('a close that fails is told', async () => {
  const ended = runUntilSignal({ close: () => Promise.reject(new Error('stuck')) });
  process.emit('SIGTERM', 'SIGTERM');
  await expect(ended).rejects.toThrow('stuck');
});
