import { afterEach, expect, onTestFinished, test } from 'vitest';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import { MuteProxy } from '../support/mute-proxy.ts';
import { RedisServer } from '../support/redis.ts';
import { compare } from './support/checker.ts';
import { killAll } from './support/child.ts';
import { ClusterWorld } from './support/cluster.ts';
import type { CallerLine } from './support/ledger.ts';
import { eventually, figures, size } from './support/sizes.ts';
import { liveVerdict, ranBy, traffic } from './support/traffic.ts';
import { numbered } from './support/world.ts';

afterEach(killAll);

/** What callers were told against what devices did. */
function verdictOf(world: ClusterWorld) {
  const lines = world.lines('queued');
  const queued = compare(lines, ranBy(lines, world.effects));
  const live = liveVerdict(world.lines('live'), world.effects);
  return { queued, live, broken: [...queued.broken, ...live.broken].slice(0, 20) };
}

const unended = (lines: readonly CallerLine[]): string => {
  const over = new Set(lines.filter(({ kind }) => kind === 'ended').map(({ id }) => id));
  return lines
    .filter(({ kind, id }) => kind === 'accepted' && !over.has(id))
    .map(({ id }) => id)
    .join(' ');
};

test('with `replicated` no node loses a command when the primary dies behind its replica, and that is promoted (P16)', {
  timeout: size(300_000, 400_000),
}, async () => {
  let target = '';
  let road!: FaultProxy;
  let replica!: RedisServer;
  const following = async (replicaOf: RedisServer): Promise<RedisServer> => {
    const follower = await RedisServer.start({ replicaOf });
    onTestFinished(() => follower.close());
    return follower;
  };
  const world = await ClusterWorld.open(
    2,
    { redisDurability: 'replicated' },
    {
      road: async (primary) => {
        target = `127.0.0.1:${primary.port}`;
        replica = await following(primary);
        road = await faultProxy({ target: () => target });
        onTestFinished(() => road.close());
        return `redis://${road.address}`;
      },
    },
  );
  const names = numbered('device', size(8, 40));
  await world.devices(names, { workMs: 10 }).says('connected');
  const queued = traffic(world, names, { live: false, perClient: 1_000_000 });
  await eventually('commands are accepted', () => queued.accepted > 150);
  // What comes now is in the primary alone: none of it may have been accepted.
  replica.freeze();
  const refused = (): number => world.lines('queued').filter(({ kind }) => kind === 'refused').length;
  await eventually('nothing is accepted without the replica', () => refused() > names.length);
  await world.redis.kill();
  replica.thaw();
  await replica.call('REPLICAOF', 'NO', 'ONE');
  await following(replica);
  target = `127.0.0.1:${replica.port}`;
  road.cutAll();
  const before = queued.accepted;
  await eventually('commands are accepted again', () => queued.accepted > before + 100, 20_000);
  queued.stop();
  let isAnswered = false;
  void queued.done.then(() => {
    isAnswered = true;
  });
  await eventually(
    () => `all have ended: ${unended(world.lines('queued'))}`,
    () => isAnswered,
  );
  await killAll();
  const { queued: verdict, broken } = verdictOf(world);
  figures(`promotion: ${JSON.stringify(verdict.states)}`);
  expect(broken).toEqual([]);
  // Devices lived through it, with their journals: nothing is unknown.
  expect(verdict.states).toEqual({ succeeded: verdict.accepted });
});

test('nodes that never hear a published word lose nothing, and double nothing (P17)', {
  timeout: size(300_000, 400_000),
}, async () => {
  let mute!: MuteProxy;
  const world = await ClusterWorld.open(
    3,
    {},
    {
      road: async ({ port }) => {
        mute = await MuteProxy.open(port);
        onTestFinished(() => mute.close());
        return mute.url;
      },
    },
  );
  const names = numbered('device', size(8, 40));
  const devices = world.devices(names, { workMs: 10 });
  await devices.says('connected');
  const queued = traffic(world, names, { live: false, perClient: size(40, 400) });
  const live = traffic(world, names, { live: true, perClient: size(10, 100) });
  await eventually('a third is accepted', () => queued.accepted > (names.length * size(40, 400)) / 3);
  // Its devices turn up at the other nodes, who are not told.
  world.nodes[1]!.child.signal('SIGTERM');
  expect(await world.nodes[1]!.child.ended).toBe(0);
  await world.nodes[1]!.start();
  await Promise.all([queued.done, live.done]);
  expect(mute.lost, 'words that nobody heard').toBeGreaterThan(0);
  await killAll();
  const { queued: verdict, live: told, broken } = verdictOf(world);
  figures(`without pub/sub (${mute.lost} lost): ${JSON.stringify(verdict.states)}, ${JSON.stringify(told.counts)}`);
  expect(broken).toEqual([]);
  expect(verdict.states).toEqual({ succeeded: verdict.accepted });
  expect(told.counts).toEqual({ succeeded: names.length * size(10, 100) });
});
