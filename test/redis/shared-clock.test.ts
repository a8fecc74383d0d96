import { expect, onTestFinished, test } from 'vitest';
import { Membership } from '../../src/cluster/index.ts';
import { systemClock } from '../../src/flow/clock.ts';
import { Hub } from '../../src/hub/index.ts';
import { openRedis } from '../../src/redis/index.ts';
import { openSharedClock, type SharedClock } from '../../src/redis/shared-clock.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { MemoryNodes } from '../cluster/memory-nodes.ts';
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
  // As several nodes are: whichever looks first ends what expires, and who waits at another one is told.
  const node = async (clock: SharedClock, at: number): Promise<Hub> => {
    const { directory, commands, log } = store;
    const links = new MemoryNodes().links();
    const membership = new Membership({ directory, links, id: `node-${at}`, version: 'test', clock });
    await membership.join(`node-${at}:1`);
    onTestFinished(() => membership.close());
    const hub = new Hub({ commands, clock, log, claims: membership });
    membership.attach(hub);
    return hub;
  };
  const hubs = await Promise.all(clocks.map(node));
  const [first, , last] = hubs;
  // Stored by the node whose clock is behind, looked at by the one whose clock is ahead.
  const kept = testCommand({ whenOffline: 'queue', ttlMs: hour });
  for await (const { state } of first!.send(kept)) if (state === 'queued') break;
  const short = collect(first!.send(testCommand({ whenOffline: 'queue', ttlMs: 1000 })));
  expect((await short).at(-1)).toMatchObject({ state: 'expired' });
  expect(await last!.get('default', kept.id)).toMatchObject({ last: { state: 'queued' } });
  for (const hub of hubs) await hub.close();
  for (const clock of clocks) clock.close();
});
