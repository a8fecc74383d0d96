import { expect, test } from 'vitest';
import { systemClock } from '../../src/flow/clock.ts';
import { Hub } from '../../src/hub/index.ts';
import { openRedis } from '../../src/redis/index.ts';
import { openSharedClock } from '../../src/redis/shared-clock.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { RedisServer } from '../support/redis.ts';

const hour = 3_600_000;

test('nodes whose clocks are wrong by hours agree on the time, and nothing expires early or late', async () => {
  await using redis = await RedisServer.start();
  await using store = await openRedis({ url: redis.url });
  const clocks = await Promise.all(
    [-3 * hour, 0, 5 * hour].map((wrongMs) =>
      openSharedClock(store.connection, { ...systemClock, now: () => systemClock.now() + wrongMs }),
    ),
  );
  const [behind, right, ahead] = clocks.map((clock) => clock.now());
  expect(Math.abs(behind! - right!)).toBeLessThan(1000);
  expect(Math.abs(ahead! - right!)).toBeLessThan(1000);
  const [first, , last] = clocks.map((clock) => new Hub({ commands: store.commands, clock }));
  // Stored by the node whose clock is behind, looked at by the one whose clock is ahead.
  const kept = testCommand({ whenOffline: 'queue', ttlMs: hour });
  for await (const { state } of first!.send(kept)) if (state === 'queued') break;
  const short = collect(first!.send(testCommand({ whenOffline: 'queue', ttlMs: 1000 })));
  expect((await short).at(-1)).toMatchObject({ state: 'expired' });
  expect(await last!.get('default', kept.id)).toMatchObject({ last: { state: 'queued' } });
  await first!.close();
  await last!.close();
  for (const clock of clocks) clock.close();
});
