import { afterEach, expect, onTestFinished, test } from 'vitest';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { grpcTransport } from '../../src/grpc/index.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { submit } from './support/callers.ts';
import { compare } from './support/checker.ts';
import { killAll } from './support/child.ts';
import { ClusterWorld } from './support/cluster.ts';
import type { HubUsage } from './support/hub.ts';
import type { CallerLine, EffectLine } from './support/ledger.ts';
import { order } from './support/order.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';
import { liveVerdict } from './support/traffic.ts';
import { numbered } from './support/world.ts';

afterEach(killAll);

interface Contention {
  readonly node: string;
  readonly retryAfterMs: number;
}

/** Three nodes in this process over a Redis of their own. */
async function nodes() {
  const redis = await RedisServer.start();
  onTestFinished(() => redis.close());
  const contentions: Contention[] = [];
  const sessions = { opened: 0 };
  const servers: SignalboxServer[] = [];
  onTestFinished(async () => {
    for (const server of servers) await server.close();
  });
  for (const node of ['node-1', 'node-2', 'node-3'])
    servers.push(
      await serve(
        { grpc: '127.0.0.1:0', http: false, redis: redis.url, node, logLevel: 'silent', drainTimeoutMs: 0 },
        {
          sources: { env: {}, cwd: import.meta.dirname },
          observe: (fact) => {
            if (fact.kind === 'client-contended' && 'retryAfterMs' in fact)
              contentions.push({ node, retryAfterMs: Number(fact.retryAfterMs) });
            if (fact.kind === 'session-opened') sessions.opened++;
          },
        },
      ),
    );
  return { addresses: servers.map(({ grpc }) => grpc[0]!), contentions, sessions };
}

describeNeeding('redis', 'one client id at several nodes', () => {
  test('one id flaps between programs at three nodes: epochs rise, the old one hears why, nothing is lost or run twice (P8)', {
    timeout: size(300_000, 600_000),
  }, async () => {
    const { between, seed } = dice();
    const { addresses, contentions } = await nodes();
    const [queued, live]: [CallerLine[], CallerLine[]] = [[], []];
    const effects: EffectLine[] = [];
    const to = (lines: CallerLine[]) => ({ write: (line: CallerLine) => void lines.push(line) });
    const transport = grpcTransport({ address: addresses.join(',') });
    onTestFinished(() => transport.close());
    const flaps = size(200, 2000);
    const epochs: number[] = [];
    const ends: Promise<string>[] = [];
    const reasons: string[] = [];
    let old: Device | undefined;
    for (let i = 0; i < flaps; i++) {
      const device = await connectDevice({
        address: addresses[between(0, 2)]!,
        clientId: 'contended',
        // The one that lost does not come back.
        backoff: { minMs: 60_000, maxMs: 60_000 },
        observe: (fact) => {
          if (fact.kind === 'stream-ended') reasons.push(fact.reason);
        },
      });
      device.handle(
        order,
        ({ content, orderingKey }, { commandId }) => {
          effects.push({ id: commandId, clientId: 'contended', content, orderingKey, boot: String(i) });
          return { content, orderingKey };
        },
        { result: order },
      );
      if (device.state.kind === 'connected') epochs.push(device.state.epoch);
      const clientId = 'contended';
      const before = effects.length;
      for (const n of [0, 1]) {
        const one = submit(transport, to(queued), { clientId, content: `${i}-${n}`, retries: 20 });
        ends.push(one.ended);
        // In this order they are to run.
        await one.accepted;
      }
      ends.push(submit(transport, to(live), { clientId, content: `${i} live`, live: true }).ended);
      // Some have no time for anything, and others some.
      for (let tries = 0; i % 4 !== 0 && effects.length === before && tries < 20; tries++) await sleep(5);
      if (old) {
        await eventually('the old stream hears that it was taken over', () => reasons.length >= i, 10_000);
        await old.close({ timeoutMs: 0 });
      }
      old = device;
    }
    const calmAt = performance.now();
    await Promise.all(ends);
    figures(`all were told ${Math.round(performance.now() - calmAt)} ms later`);
    await old?.close({ timeoutMs: 0 });
    const ids = new Set(queued.map(({ id }) => id));
    const verdict = compare(
      queued,
      effects.filter(({ id }) => ids.has(id)),
    );
    const told = liveVerdict(live, effects);
    figures(
      `seed ${seed}, ${flaps} flaps: queued ${JSON.stringify(verdict.states)}, live ${JSON.stringify(told.counts)}`,
    );
    expect([...verdict.broken, ...told.broken]).toEqual([]);
    expect(verdict.accepted).toBe(2 * flaps);
    expect(epochs).toHaveLength(flaps);
    expect(epochs.findIndex((epoch, i) => i > 0 && epoch <= epochs[i - 1]!)).toBe(-1);
    expect(reasons.slice(0, flaps - 1).filter((reason) => !/took over/.test(reason))).toEqual([]);
    expect(contentions.length).toBeGreaterThan(0);
  });

  test('two programs that fight for one id at three nodes are slowed more and more, and reported (P8)', {
    timeout: 120_000,
  }, async () => {
    const { addresses, contentions, sessions } = await nodes();
    const fighters = [0, 1].map(() =>
      connectDevice({
        address: addresses.join(','),
        clientId: 'contended',
        waitForWelcome: false,
        backoff: { minMs: 10, maxMs: 50 },
      }),
    );
    onTestFinished(async () => {
      for (const fighter of fighters) await (await fighter).close({ timeoutMs: 0 });
    });
    await eventually('the loser is sent away for four seconds', () =>
      contentions.some(({ retryAfterMs }) => retryAfterMs >= 4000),
    );
    // Without the waits of one, two and four seconds there would be hundreds. Each node counts what it sees of it.
    figures(`${sessions.opened} streams, ${JSON.stringify(contentions)}`);
    expect(sessions.opened).toBeLessThanOrEqual(12);
  });
});

describeNeeding('redis', 'presence over nodes', () => {
  test('devices and nodes are stopped, cut off and killed: what the nodes show is the truth, and all is given back (P8, P9)', {
    timeout: size(300_000, 400_000),
  }, async () => {
    const world = await ClusterWorld.open(3);
    const half = size(50, 200);
    const [some, others] = [numbered('some', half), numbered('other', half)];
    /** What a watcher of HTTP sees at each node that is not stopped: clients that are connected, and where. */
    const seen = async (except?: number): Promise<Map<string, string>[]> =>
      Promise.all(
        world.nodes
          .filter((_, at) => at !== except)
          .map(async ({ http }) => {
            const answer = await fetch(`http://${http}/v1/clients?connected=true`);
            const { clients } = (await answer.json()) as { clients: { id: string; node: string }[] };
            return new Map(clients.map(({ id, node }) => [id, node]));
          }),
      );
    const usages = (): Promise<HubUsage[]> => Promise.all(world.nodes.map((node) => node.usage()));
    const are = (what: string, wanted: readonly string[], { stopped }: { stopped?: number } = {}) =>
      eventually(
        `these are connected and no others, at every node: ${what}`,
        async () =>
          (await seen(stopped)).every(
            (clients) =>
              clients.size === wanted.length &&
              wanted.every((id) => clients.has(id)) &&
              // Nobody is held by one that is stopped.
              (stopped === undefined || ![...clients.values()].includes(`node-${stopped + 1}`)),
          ),
        20_000,
      );
    const warmUp = world.devices(some);
    await are('before it begins', some);
    await warmUp.kill();
    await are('none', []);
    await sleep(2500); // what was kept for a resume, and closed sockets, are gone
    const base = await usages();

    const [first, second] = [world.devices(some), world.devices(others)];
    await are('all', [...some, ...others]);
    first.signal('SIGSTOP');
    await are('half of the devices are stopped', others);
    first.signal('SIGCONT');
    await are('all are back', [...some, ...others]);
    world.nodes[1]!.child.signal('SIGSTOP');
    await are('a node is stopped beyond its lease', [...some, ...others], { stopped: 1 });
    world.nodes[1]!.child.signal('SIGCONT');
    // Fenced: whoever moved away meanwhile is not held twice.
    await eventually(
      'each has one stream',
      async () => (await usages()).reduce((sum, { sessions }) => sum + sessions, 0) === 2 * half,
      20_000,
    );
    await are('the node goes on', [...some, ...others]);
    await Promise.all([first.kill(), second.kill()]);
    await are('all are killed', []);
    await sleep(2500);
    for (const [at, after] of (await usages()).entries()) {
      expect(after.sessions).toBe(0);
      for (const kind of ['TCPSocketWrap', 'Timeout'])
        expect(after.resources[kind] ?? 0, `${kind} of node ${at + 1}`).toBeLessThanOrEqual(
          (base[at]!.resources[kind] ?? 0) + 6,
        );
      // A hundred clients that were here would show.
      expect(after.descriptors).toBeLessThanOrEqual(base[at]!.descriptors + 6);
    }
  });
});
