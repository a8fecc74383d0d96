import { mkdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import type { RedisServer } from '../support/redis.ts';
import { submit } from './support/callers.ts';
import { compare } from './support/checker.ts';
import { killAll } from './support/child.ts';
import { ClusterWorld } from './support/cluster.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';
import { ranBy, traffic } from './support/traffic.ts';
import { numbered } from './support/world.ts';

afterEach(killAll);

interface Place {
  readonly redis: RedisServer;
  readonly road: FaultProxy;
}

/** What can be wrong with Redis. `refuses`: no command can be accepted meanwhile. */
interface State {
  readonly name: string;
  readonly refuses: boolean;
  begin(place: Place): unknown;
  end(place: Place): unknown;
}

const lastSave = async (redis: RedisServer): Promise<string> =>
  /rdb_last_bgsave_status:(\w+)/.exec(String(await redis.call('INFO', 'persistence')))?.[1] ?? '';
const save = async (redis: RedisServer, outcome: string): Promise<void> => {
  await redis.call('BGSAVE');
  await eventually(`a snapshot ends ${outcome}`, async () => (await lastSave(redis)) === outcome);
};
const snapshot = ({ directory }: RedisServer): string => path.join(directory, 'dump.rdb');

const states: readonly State[] = [
  { name: 'killed', refuses: true, begin: ({ redis }) => redis.kill(), end: ({ redis }) => redis.restart() },
  {
    name: 'stopped (SIGSTOP)',
    refuses: true,
    begin: ({ redis }) => redis.freeze(),
    end: ({ redis }) => redis.thaw(),
  },
  { name: 'in a black hole', refuses: true, begin: ({ road }) => road.blackHole(), end: ({ road }) => road.heal() },
  {
    name: 'without connections (CLIENT KILL)',
    refuses: false,
    begin: async ({ redis }) => {
      for (let i = 0; i < 5; i++) {
        await redis.call('CLIENT', 'KILL', 'TYPE', 'normal');
        await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await sleep(50);
      }
    },
    end: () => undefined,
  },
  {
    // Writes are made, and whoever made them does not hear of it.
    name: 'without answers',
    refuses: false,
    begin: async ({ road }) => {
      road.setFaults({ down: { cutAfterBytes: [8000, 60_000] } });
      road.cutAll();
      await sleep(2000);
    },
    end: ({ road }) => {
      road.setFaults({});
      road.cutAll();
    },
  },
  {
    name: 'without scripts (NOSCRIPT)',
    refuses: false,
    begin: ({ redis }) => redis.call('SCRIPT', 'FLUSH'),
    end: () => undefined,
  },
  {
    name: 'LOADING',
    refuses: true,
    // Slow, with six seconds of work, until it is told to hurry: it listens once in 1024 writes.
    begin: async ({ redis }) => {
      await redis.call('EVAL', "for i = 1, 6000 do redis.call('SET', 'padding:' .. i, i) end", 0);
      await redis.restartLoading({ 'key-load-delay': '1000' });
    },
    end: ({ redis }) => redis.call('CONFIG', 'SET', 'key-load-delay', '0'),
  },
  {
    name: 'READONLY',
    refuses: true,
    begin: ({ redis }) => redis.call('REPLICAOF', '127.0.0.1', '1'),
    end: ({ redis }) => redis.call('REPLICAOF', 'NO', 'ONE'),
  },
  {
    name: 'OOM',
    refuses: true,
    begin: ({ redis }) => redis.call('CONFIG', 'SET', 'maxmemory', '1'),
    end: ({ redis }) => redis.call('CONFIG', 'SET', 'maxmemory', '0'),
  },
  {
    name: 'MISCONF',
    refuses: true,
    begin: async ({ redis }) => {
      // A snapshot cannot take the place of a folder.
      mkdirSync(snapshot(redis));
      await redis.call('CONFIG', 'SET', 'save', '3600 1');
      await save(redis, 'err');
    },
    end: async ({ redis }) => {
      rmdirSync(snapshot(redis));
      await save(redis, 'ok');
      await redis.call('CONFIG', 'SET', 'save', '');
    },
  },
];

test('whatever Redis is in: streams stay, submits are refused meanwhile, all is back by itself, and nothing is lost or doubled (P14, P15)', {
  timeout: size(600_000, 1_500_000),
}, async () => {
  const { random, seed } = dice();
  let road!: FaultProxy;
  const world = await ClusterWorld.open(
    2,
    {},
    {
      appendfsync: 'always',
      road: async ({ port }) => {
        road = await faultProxy({ target: `127.0.0.1:${port}`, random });
        onTestFinished(() => road.close());
        return `redis://${road.address}`;
      },
    },
  );
  const place: Place = { redis: world.redis, road };
  const names = numbered('device', size(8, 40));
  const devices = world.devices(names, { workMs: 10 });
  await devices.says('connected');
  const queued = traffic(world, names, { live: false, perClient: 1_000_000 });
  const callers = world.nodes.map(({ grpc }) => {
    const transport = grpcTransport({ address: grpc });
    onTestFinished(() => transport.close());
    return transport;
  });
  /** Told to callers of each node: as many answers as there were submits, or it never ends. */
  const answers = async (): Promise<string[]> => {
    // A ledger of its own: that they are refused is the point.
    const forgotten = { write: () => undefined };
    return Promise.all(
      callers.flatMap((transport) =>
        [0, 1, 2].map(() => submit(transport, forgotten, { clientId: 'nobody', content: '', ttlMs: 1000 }).ended),
      ),
    );
  };
  const streams = async () => {
    const usages = await Promise.all(world.nodes.map((node) => node.usage()));
    return {
      open: usages.reduce((sum, { sessions }) => sum + sessions, 0),
      ended: usages.reduce((sum, { facts }) => sum + (facts['session-closed'] ?? 0), 0),
    };
  };
  await eventually('the first are accepted', () => queued.accepted > 50);
  const before = await streams();
  expect(before.open).toBe(names.length);
  for (let round = 0; round < size(1, 12); round++)
    for (const { name, refuses, begin, end } of states) {
      await begin(place);
      if (refuses) {
        // Nothing is healed before all have been told.
        const told = await answers();
        expect(new Set(told), `answers while Redis is ${name}`).toEqual(new Set(['unavailable']));
        expect(told).toHaveLength(6);
      }
      expect(await streams(), `streams while Redis is ${name}`).toEqual(before);
      await end(place);
      const [accepted, since] = [queued.accepted, performance.now()];
      await eventually(`commands are accepted after Redis was ${name}`, () => queued.accepted > accepted + 20, 15_000);
      figures(`Redis ${name}: 20 more were accepted after ${Math.round(performance.now() - since)} ms`);
    }
  expect(await streams()).toEqual(before);
  expect(world.nodes.map(({ starts }) => starts)).toEqual([1, 1]);
  queued.stop();
  await Promise.race([queued.done, sleep(size(240_000, 600_000))]);
  await killAll();
  const lines = world.lines('queued');
  const verdict = compare(lines, ranBy(lines, world.effects));
  figures(`seed ${seed}, ${JSON.stringify({ ...verdict, broken: verdict.broken.length })}`);
  expect(verdict.broken.slice(0, 20)).toEqual([]);
  // Devices lived through it all, with their journals: nothing is unknown.
  expect(verdict.states).toEqual({ succeeded: verdict.accepted });
  expect(verdict.accepted).toBeGreaterThan(200);
});
