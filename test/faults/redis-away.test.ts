import { afterEach, expect, onTestFinished, test } from 'vitest';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import type { RedisServer } from '../support/redis.ts';
import { submit } from './support/callers.ts';
import { compare } from './support/checker.ts';
import { killAll } from './support/child.ts';
import { ClusterWorld } from './support/cluster.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';
import { numbered } from './support/world.ts';

afterEach(killAll);

test('Redis is killed, stopped, cut off and loses its answers: submits fail in time, nothing accepted is lost or doubled (P14, P15)', {
  timeout: size(150_000, 1_200_000),
}, async () => {
  const { random, between, seed } = dice();
  let road!: FaultProxy;
  const through = async ({ port }: RedisServer) => {
    road = await faultProxy({ target: `127.0.0.1:${port}`, random });
    onTestFinished(() => road.close());
    return `redis://${road.address}`;
  };
  const world = await ClusterWorld.open(2, {}, { appendfsync: 'always', road: through });
  const { redis } = world;
  const names = numbered('device', size(10, 50));
  world.devices(names, { workMs: 20 });
  const transport = world.transport();

  let isOver = false;
  let accepted = 0;
  const caller = async (clientId: string): Promise<void> => {
    const open = new Set<Promise<string>>();
    for (let n = 0; !isOver; n++) {
      // What is refused is submitted again, under the same id.
      const one = submit(transport, world.queued, { clientId, content: `${clientId} ${n}`, retries: 1000 });
      if (await one.accepted) accepted++;
      open.add(one.ended);
      void one.ended.then(() => open.delete(one.ended));
      while (open.size > 8) await Promise.race(open);
      await sleep(10);
    }
    await Promise.all(open);
  };
  const callers = Promise.all(names.map(caller));
  callers.catch(() => undefined); // awaited below
  await eventually('the first hundred are accepted', () => accepted > 100);

  /** A submit while Redis is away: how long until its caller is told, and what. */
  const refused = async () => {
    const begun = performance.now();
    // A ledger of its own: that it is refused is the point.
    const lines: unknown[] = [];
    const code = await submit(
      transport,
      { write: (line) => void lines.push(line) },
      { clientId: 'nobody', content: '' },
    ).ended;
    return { code, tookMs: performance.now() - begun };
  };
  const accidents: Record<string, () => Promise<void>> = {
    async killed() {
      await redis.kill();
      expect(await refused()).toMatchObject({ code: 'unavailable' });
      await sleep(between(0, 3000));
      await redis.restart();
    },
    async stopped() {
      redis.freeze();
      const { code, tookMs } = await refused();
      expect(code).toBe('unavailable');
      // Two seconds are the promise; the hop to another node and a busy machine come on top.
      expect(tookMs).toBeLessThan(6000);
      await sleep(between(0, 2000));
      redis.thaw();
    },
    async 'cut off'() {
      road.blackHole();
      expect(await refused()).toMatchObject({ code: 'unavailable' });
      await sleep(between(0, 2000));
      road.heal();
    },
    async 'without answers'() {
      road.setFaults({ down: { cutAfterBytes: [8000, 60_000] } });
      road.cutAll();
      await sleep(2000);
      road.setFaults({});
      road.cutAll();
    },
    async 'without connections'() {
      for (let i = 0; i < 5; i++) {
        await redis.call('CLIENT', 'KILL', 'TYPE', 'normal').catch(() => undefined);
        await redis.call('SCRIPT', 'FLUSH');
        await sleep(100);
      }
    },
  };
  const longest: Record<string, number> = {};
  for (let round = 0; round < size(1, 12); round++)
    for (const [name, accident] of Object.entries(accidents)) {
      await accident();
      const [before, since] = [accepted, performance.now()];
      await eventually(`commands are accepted again after Redis was ${name}`, () => accepted > before + 20, 10_000);
      longest[name] = Math.max(longest[name] ?? 0, Math.round(performance.now() - since));
      await sleep(500);
    }
  isOver = true;
  await Promise.race([callers, sleep(size(60_000, 300_000))]);
  await killAll();
  const verdict = compare(world.lines('queued'), world.effects);
  figures(
    `seed ${seed}, ms until 20 were accepted again ${JSON.stringify(longest)}, ${JSON.stringify({ ...verdict, broken: verdict.broken.length })}`,
  );
  expect(verdict.broken.slice(0, 20)).toEqual([]);
  // Devices lived through it all, with their journals: nothing is unknown.
  expect(verdict.states).toEqual({ succeeded: verdict.accepted });
});
