import { spawnSync } from 'node:child_process';
import type { CallersVerbs } from './actors/callers.ts';
import type { DevicesVerbs } from './actors/devices.ts';
import type { NatsVerbs } from './actors/nats.ts';
import type { NiceEchoVerbs } from './actors/nice-echo.ts';
import type { NodeVerbs } from './actors/node.ts';
import type { RedisVerbs } from './actors/redis.ts';
import type { WatchersVerbs } from './actors/watchers.ts';
import { type Actor, type Bench, beside, type Contender, during, perOperation, takeTurns } from './harness.ts';

const devicesPerNode = 100;
const bytes = 100;

/**
 * Three nodes over one Redis. A command and its result where caller and device sit on different nodes, beside the same
 * on one node, a bare unary echo of nice-grpc and NATS; queued commands; one channel watched at all nodes; and the time
 * until the devices of a killed node are back.
 */
export async function cluster(bench: Bench): Promise<void> {
  const redis = await bench.start<RedisVerbs>('redis');
  const url = await redis.call('open');
  const nodes: Actor<NodeVerbs>[] = [];
  const addresses: { grpc: string; http: string }[] = [];
  for (const name of ['a', 'b', 'c']) {
    const node = await bench.start<NodeVerbs>('node');
    nodes.push(node);
    addresses.push(await node.call('open', { redis: url, node: name }));
  }
  await hop(bench, redis, nodes, addresses);
  await fanOut(bench, nodes, addresses);
  await death(bench, nodes, addresses);
}

type Addresses = readonly { readonly grpc: string; readonly http: string }[];

async function hop(bench: Bench, redis: Actor<RedisVerbs>, nodes: readonly Actor<NodeVerbs>[], addresses: Addresses) {
  const [a, b] = nodes as [Actor<NodeVerbs>, Actor<NodeVerbs>];
  const devices = await bench.start<DevicesVerbs>('devices');
  for (const [at, prefix] of ['here', 'there'].entries())
    await devices.call('open', { address: addresses[at]!.grpc, prefix, count: devicesPerNode });
  const contenders: Record<string, Contender> = {};
  for (const prefix of ['here', 'there']) {
    const callers = await bench.start<CallersVerbs>('callers');
    await callers.call('open', { address: addresses[0]!.grpc, prefix, count: devicesPerNode });
    contenders[prefix] = async (seconds) =>
      withNodes(
        await perOperation({ a, b, redis, caller: callers }, () => callers.call('commands', { seconds, bytes })),
      );
    for (const whenOffline of ['fail', 'queue'] as const)
      contenders[`${prefix} in process ${whenOffline}`] = async (seconds) =>
        withNodes(
          await perOperation({ a, b, redis }, () =>
            a.call('commands', { prefix, count: devicesPerNode, seconds, bytes, whenOffline }),
          ),
        );
  }
  const echo = await bench.start<NiceEchoVerbs>('nice-echo');
  const echoCallers = await bench.start<NiceEchoVerbs>('nice-echo');
  await echoCallers.call('connect', { address: await echo.call('serve') });
  contenders['nice-grpc unary echo'] = async (seconds) => {
    const numbers = await perOperation({ server: echo, caller: echoCallers }, () =>
      echoCallers.call('call', { count: devicesPerNode, seconds, bytes }),
    );
    return { ...numbers, nodes: numbers.server! + numbers.caller! };
  };
  if (bench.hasPeers && spawnSync('nats-server', ['--version']).status === 0) {
    const nats = await bench.start<NatsVerbs>('nats');
    const responders = await bench.start<NatsVerbs>('nats');
    const requesters = await bench.start<NatsVerbs>('nats');
    const address = await nats.call('serve');
    await responders.call('respond', { address, count: devicesPerNode });
    await requesters.call('connect', { address });
    contenders['NATS request/reply'] = async (seconds) => {
      const numbers = await perOperation({ server: nats, caller: requesters }, () =>
        requesters.call('call', { count: devicesPerNode, seconds, bytes }),
      );
      return { ...numbers, nodes: numbers.server!, inProcess: numbers.server! + numbers.caller! };
    };
  } else bench.say('skipped: NATS request/reply, nats-server is not installed');

  const turns = bench.isQuick ? { rounds: 3, seconds: 0.5, warmUpSeconds: 1.2 } : { rounds: 5, seconds: 2 };
  const results = await takeTurns(contenders, turns);
  const { here, there } = results;
  const others = {
    'one node': here,
    'nice-grpc unary echo': results['nice-grpc unary echo'],
    ...(results['NATS request/reply'] && { 'NATS request/reply': results['NATS request/reply'] }),
  };
  const report = (metric: string, unit: string, number: string): void =>
    bench.report(metric, unit, there![number]!, beside(others, number));
  report('RPC over two nodes: CPU of the nodes per command', 'us', 'nodes');
  report('RPC over two nodes: p50', 'ms', 'p50Ms');
  report('RPC over two nodes: p99', 'ms', 'p99Ms');
  report('RPC over two nodes: commands per second', '1/s', 'perSecond');
  bench.report('RPC over two nodes: CPU of Redis per command', 'us', there!.redis!);
  for (const [how, title] of [
    ['fail', 'live'],
    ['queue', 'queued'],
  ] as const) {
    const far = results[`there in process ${how}`]!;
    const near = results[`here in process ${how}`]!;
    // Where the caller is in the node, its part of NATS counts, too.
    const nats = how === 'fail' ? results['NATS request/reply'] : undefined;
    const add = (metric: string, unit: string, number: string): void =>
      bench.report(`${title} in process over two nodes: ${metric}`, unit, far[number]!, {
        'one node': near[number]!,
        ...(nats && number !== 'redis' && { 'NATS request/reply': nats[number === 'nodes' ? 'inProcess' : number]! }),
      });
    add('CPU of the nodes per command', 'us', 'nodes');
    add('CPU of Redis per command', 'us', 'redis');
    add('commands per second', '1/s', 'perSecond');
    add('p50', 'ms', 'p50Ms');
    add('p99', 'ms', 'p99Ms');
  }
  const added = results['there in process fail']!.nodes! - results['here in process fail']!.nodes!;
  bench.report('what the hop adds: CPU of both nodes', 'us', added, {
    'nice-grpc unary echo': results['nice-grpc unary echo']!.nodes!,
  });
}

const withNodes = (numbers: Record<string, number>) => ({ ...numbers, nodes: numbers.a! + numbers.b! });

/** One channel with 50 events a second, published at one node and watched at all three. */
async function fanOut(bench: Bench, nodes: readonly Actor<NodeVerbs>[], addresses: Addresses): Promise<void> {
  const [perSecond, seconds, watchers] = [50, bench.isQuick ? 2 : 5, 100];
  const readers = await bench.start<WatchersVerbs>('watchers');
  for (const { http } of addresses)
    await readers.call('open', { address: http, path: '/v1/events?channel=bench', count: watchers });
  await nodes[0]!.call('publish', { channel: 'bench', perSecond, seconds: 1, bytes });
  await readers.call('begin');
  const { result, cpuUs } = await during({ a: nodes[0]!, b: nodes[1]!, c: nodes[2]! }, async () => {
    await nodes[0]!.call('publish', { channel: 'bench', perSecond, seconds, bytes });
    const expected = perSecond * seconds * watchers * addresses.length;
    const until = performance.now() + 10_000;
    for (;;) {
      const load = await readers.call('end');
      if (load.operations >= expected) return load;
      if (performance.now() > until) throw new Error(`${load.operations} of ${expected} events were delivered`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
  const total = cpuUs.a! + cpuUs.b! + cpuUs.c!;
  const title = `one channel over three nodes, ${watchers} watchers each`;
  bench.report(`${title}: CPU of the nodes per delivery`, 'us', total / result.operations);
  bench.report(`${title}: p50 from event to watcher`, 'ms', result.p50Ms);
  bench.report(`${title}: p99 from event to watcher`, 'ms', result.p99Ms);
}

/** Devices that know all three nodes; the node with most of them is killed. */
async function death(bench: Bench, nodes: readonly Actor<NodeVerbs>[], addresses: Addresses): Promise<void> {
  const count = bench.isQuick ? 300 : 1000;
  const before = await sessionsOf(nodes);
  const devices = await bench.start<DevicesVerbs>('devices');
  await devices.call('open', { address: addresses.map(({ grpc }) => grpc).join(','), prefix: 'nomad', count });
  const all = (await sessionsOf(nodes)).map((sessions, at) => sessions - before[at]!);
  const busiest = all.indexOf(Math.max(...all.slice(2)));
  const begun = performance.now();
  await nodes[busiest]!.kill();
  const left = nodes.filter((_, at) => at !== busiest);
  const expected = before.reduce((sum, sessions, at) => (at === busiest ? sum : sum + sessions), 0) + count;
  while ((await sessionsOf(left)).reduce((sum, sessions) => sum + sessions, 0) < expected) {
    if (performance.now() - begun > 60_000) throw new Error('not all devices came back within a minute');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  bench.report(
    `time until all ${all[busiest]} devices of a killed node are back`,
    's',
    (performance.now() - begun) / 1000,
  );
}

const sessionsOf = (nodes: readonly Actor<NodeVerbs>[]): Promise<number[]> =>
  Promise.all(nodes.map((node) => node.call('sessions')));
