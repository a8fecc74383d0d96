import { afterEach, expect, test } from 'vitest';
import { accidents } from './support/accidents.ts';
import { compare } from './support/checker.ts';
import { killAll } from './support/child.ts';
import { ClusterWorld } from './support/cluster.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';
import { liveVerdict, ranBy, traffic } from './support/traffic.ts';
import { numbered } from './support/world.ts';

afterEach(killAll);

test('nodes are killed, stopped beyond their lease, and drained: nothing accepted is lost, nothing runs twice, order holds (P1-P3, P8)', {
  timeout: size(900_000, 2_700_000),
}, async () => {
  const luck = dice();
  const world = await ClusterWorld.open(3);
  const names = numbered('device', size(50, 200));
  const half = names.length / 2;
  const pauseMs = size(100, 200);
  const queued = traffic(world, names, { live: false, perClient: 1_000_000, pauseMs });
  const live = traffic(world, names, { live: true, perClient: 1_000_000, pauseMs });
  const beganAt = performance.now();
  const seen = await accidents(world, {
    count: size(56, 420),
    dice: luck,
    accepted: () => queued.accepted,
    devices: [
      () => world.devices(names.slice(0, half), { workMs: 30 }),
      () => world.devices(names.slice(half), { workMs: 30 }),
    ],
  });
  const [commands, tookMs] = [size(5000, 50_000), performance.now() - beganAt];
  await eventually(`${commands} commands are accepted`, () => queued.accepted >= commands, size(240_000, 600_000));
  queued.stop();
  live.stop();
  const calmAt = performance.now();
  await Promise.race([Promise.all([queued.done, live.done]), sleep(size(240_000, 600_000))]);
  await killAll();
  const lines = world.lines('queued');
  const verdict = compare(lines, ranBy(lines, world.effects));
  const told = liveVerdict(world.lines('live'), world.effects);
  figures(
    `seed ${luck.seed}, ${JSON.stringify(seen)} in ${Math.round(tookMs / 1000)} s, calm ${Math.round(performance.now() - calmAt)} ms, queued ${JSON.stringify({ ...verdict, broken: verdict.broken.length })}, live ${JSON.stringify(told.counts)}`,
  );
  expect([...verdict.broken, ...told.broken].slice(0, 20)).toEqual([]);
  expect(verdict.accepted).toBe(verdict.states.succeeded! + (verdict.states.unknown ?? 0));
  expect(verdict.accepted).toBeGreaterThanOrEqual(commands);
});

test('a rolling restart under load: every node drains and ends well, no command is lost, doubled, refused or unknown (P12)', {
  timeout: size(300_000, 300_000),
}, async () => {
  const world = await ClusterWorld.open(3, {}, { appendfsync: 'always' });
  const names = numbered('device', 10);
  const devices = world.devices(names, { workMs: 60 });
  await devices.says('connected');
  const queued = traffic(world, names, { live: false, perClient: 100_000 });
  const live = traffic(world, names, { live: true, perClient: 100_000 });
  for (const node of world.nodes) {
    const before = live.accepted;
    await eventually('commands are accepted', () => live.accepted > before + 50);
    const since = performance.now();
    node.child.signal('SIGTERM');
    expect(await node.child.ended).toBe(0);
    expect(performance.now() - since).toBeLessThan(30_000);
    await node.start();
  }
  queued.stop();
  live.stop();
  await Promise.all([queued.done, live.done]);
  await killAll();
  const lines = world.lines('queued');
  const verdict = compare(lines, ranBy(lines, world.effects));
  const told = liveVerdict(world.lines('live'), world.effects);
  if (process.env.SIGNALBOX_TALK)
    for (const line of world.lines('live')) if (line.kind === 'refused') figures(`${line.code}: ${line.message}`);
  figures(`rolling restart: queued ${JSON.stringify(verdict.states)}, live ${JSON.stringify(told.counts)}`);
  expect([...verdict.broken, ...told.broken].slice(0, 20)).toEqual([]);
  expect(Object.keys(verdict.states)).toEqual(['succeeded']);
  expect(Object.keys(told.counts)).toEqual(['succeeded']);
});

test('of a killed node all devices are back within its lease and their wait, and presence says so (P9)', {
  timeout: size(300_000, 300_000),
}, async () => {
  const world = await ClusterWorld.open(3);
  const names = numbered('device', size(60, 500));
  const devices = world.devices(names);
  await devices.says('connected');
  const sessions = async (): Promise<number[]> =>
    Promise.all(world.nodes.filter(({ child }) => !child.hasEnded).map(async (node) => (await node.usage()).sessions));
  await eventually('all are connected', async () => (await sessions()).reduce((a, b) => a + b) === names.length);
  const busiest = (await sessions()).reduce((best, count, at, all) => (count > all[best]! ? at : best), 0);
  const since = performance.now();
  await world.nodes[busiest]!.child.kill();
  await eventually('all are back', async () => (await sessions()).reduce((a, b) => a + b) === names.length, 30_000);
  figures(`devices of a killed node were back after ${Math.round(performance.now() - since)} ms`);
});

test('Redis dies and freezes for longer than a lease: streams stay, live commands of a node go on, the rest is refused soon, and all is back by itself (P14)', {
  timeout: size(300_000, 300_000),
}, async () => {
  const world = await ClusterWorld.open(3, {}, { appendfsync: 'always' });
  const names = numbered('device', 12);
  const devices = world.devices(names, { workMs: 5 });
  await devices.says('connected');
  const queued = traffic(world, names, { live: false, perClient: 1_000_000 });
  const live = traffic(world, names, { live: true, perClient: 1_000_000 });
  const sessions = async (): Promise<number> =>
    (await Promise.all(world.nodes.map(async (node) => (await node.usage()).sessions))).reduce((a, b) => a + b);
  for (const how of ['killed', 'frozen'] as const) {
    const before = [queued.accepted, live.accepted] as const;
    await eventually('all goes well', () => queued.accepted > before[0] + 100 && live.accepted > before[1] + 100);
    if (how === 'killed') await world.redis.kill();
    else world.redis.freeze();
    const out = [queued.accepted, live.accepted] as const;
    const begun = performance.now();
    // Somebody's device is at the node that the caller speaks to.
    await eventually('live commands go on', () => live.accepted > out[1] + 20);
    await sleep(Math.max(0, 5000 - (performance.now() - begun)));
    expect(await sessions(), `streams while Redis is ${how}`).toBe(names.length);
    if (how === 'killed') await world.redis.restart();
    else world.redis.thaw();
    const back = performance.now();
    const since = [queued.accepted, live.accepted] as const;
    await eventually('all is back', () => queued.accepted > since[0] + 100 && live.accepted > since[1] + 100, 15_000);
    figures(`Redis ${how}: back after ${Math.round(performance.now() - back)} ms`);
    expect(await sessions()).toBe(names.length);
  }
  queued.stop();
  live.stop();
  await Promise.race([Promise.all([queued.done, live.done]), sleep(40_000)]);
  await killAll();
  const lines = world.lines('queued');
  const verdict = compare(lines, ranBy(lines, world.effects));
  const told = liveVerdict(world.lines('live'), world.effects);
  figures(`Redis away: queued ${JSON.stringify(verdict.states)}, live ${JSON.stringify(told.counts)}`);
  expect([...verdict.broken, ...told.broken].slice(0, 20)).toEqual([]);
});
