import { expect, test } from 'vitest';
import { WatchedChannel } from '../../src/redis/watched-channel.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a look at a channel in which nothing has happened wakes nobody, what comes after that does, once a turn', async () => {
  const channel = new WatchedChannel('t/a');
  let wakes = 0;
  channel.add(() => wakes++);
  for (const seq of [0, 0]) channel.found({ epoch: 1, seq });
  await turn();
  expect(wakes).toBe(0);
  channel.found({ epoch: 1, seq: 1 });
  channel.reached({ epoch: 1, seq: 2 });
  await turn();
  expect(wakes).toBe(1);
  channel.reached({ epoch: 1, seq: 2 });
  channel.found({ epoch: 2, seq: 0 });
  await turn();
  expect(wakes).toBe(2);
});
