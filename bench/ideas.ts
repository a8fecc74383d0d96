import type { GrpcEchoVerbs } from './actors/grpc-echo.ts';
import type { Http2EchoVerbs } from './actors/http2-echo.ts';
import type { IdeasVerbs, Way } from './actors/ideas.ts';
import { type Bench, beside, type Contender, perOperation, same, takeTurns } from './harness.ts';

/** Each idea that the product is built on, beside what it stands in place of: why it is kept. */
const pairs: [string, Way, Way][] = [
  ['encoding a command of 100 bytes, one writer for all', 'encode with one writer', 'encode with a new writer'],
  ['encoding a command of 100 bytes, by hand', 'encode by hand', 'encode with one writer'],
  ['setting and clearing a time, one wheel for all', 'a wheel for all', 'a timer each'],
  ['framing an event for one of 1,000 watchers, once for all', 'a frame for all watchers', 'a frame for each watcher'],
];

export async function ideas(bench: Bench): Promise<void> {
  await alone(bench);
  await onTheWire(bench);
}

async function alone(bench: Bench): Promise<void> {
  const contenders: Record<string, Contender> = {};
  for (const way of new Set(pairs.flatMap(([, ...two]) => two))) {
    const actor = await bench.start<IdeasVerbs>('ideas');
    contenders[way] = (seconds) => actor.call('time', { way, seconds });
  }
  const results = await takeTurns(contenders, { rounds: bench.isQuick ? 5 : 15, seconds: 0.1, warmUpSeconds: 0.3 });
  for (const [metric, way, other] of pairs)
    bench.report(`${metric}: CPU`, 'us', results[way]!.us!, { [other]: results[other]!.us! });
  await bench.stopAll();
}

/** 100 bytes to 100 clients and back, a connection each, by turns: grpc-js, and node:http2 with one message and with four. */
async function onTheWire(bench: Bench): Promise<void> {
  const [count, bytes] = [100, 100];
  const contenders: Record<string, Contender> = {};
  const bare = await bench.start<GrpcEchoVerbs>('grpc-echo');
  const clients = await bench.start<GrpcEchoVerbs>('grpc-echo');
  await clients.call('connect', { address: await bare.call('serve'), count });
  contenders['grpc-js'] = (seconds) =>
    perOperation({ server: bare }, () => bare.call('echo', { count, seconds, bytes }));

  const own = await bench.start<Http2EchoVerbs>('http2-echo');
  const ownClients = await bench.start<Http2EchoVerbs>('http2-echo');
  await ownClients.call('connect', { address: await own.call('serve'), count });
  same('http2 clients', await own.call('peers'), count);
  const over = (messages: number, joined: boolean): Contender => {
    return (seconds) =>
      perOperation({ server: own }, () => own.call('echo', { count, seconds, bytes, messages, joined }));
  };
  contenders['node:http2'] = over(1, true);
  contenders['four at once, joined'] = over(4, true);
  contenders['four at once, a write each'] = over(4, false);
  const results = await takeTurns(
    contenders,
    bench.isQuick ? { rounds: 7, seconds: 0.4, warmUpSeconds: 1 } : { rounds: 21, seconds: 0.5 },
  );
  const { 'node:http2': http2, 'four at once, joined': joined, 'grpc-js': grpc, ...each } = results;
  bench.report(
    'a message to 100 clients and back: server CPU',
    'us',
    http2!.server!,
    beside({ 'grpc-js': grpc }, 'server'),
  );
  bench.report('four messages in one turn, joined: server CPU', 'us', joined!.server!, beside(each, 'server'));
  await bench.stopAll();
}
