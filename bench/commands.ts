import type { DevicesVerbs } from './actors/devices.ts';
import type { GrpcEchoVerbs } from './actors/grpc-echo.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { SocketIoVerbs } from './actors/socket-io.ts';
import { type AnyActor, type Bench, beside, type Contender, perOperation, same, takeTurns } from './harness.ts';
import type { Load } from './load.ts';

/**
 * A live command and its result, in the hub's own process: 100 bytes there and back, one connection for each device,
 * one command at a time for each. Beside it the same bytes over bare grpc-js, and over socket.io with acknowledgement.
 */
export async function commands(bench: Bench): Promise<void> {
  for (const count of bench.isQuick ? [100] : [100, 1000]) await compare(bench, count);
}

async function compare(bench: Bench, count: number): Promise<void> {
  const bytes = 100;
  const contenders: Record<string, Contender> = {};
  const add = (name: string, server: AnyActor, client: AnyActor, work: (seconds: number) => Promise<Load>): void => {
    contenders[name] = (seconds) => perOperation({ server, client }, () => work(seconds));
  };

  const hub = await bench.start<HubVerbs>('hub');
  const devices = await bench.start<DevicesVerbs>('devices');
  const { grpc } = await hub.call('open', {});
  await devices.call('open', { address: grpc, prefix: 'pump', count });
  same('devices', await hub.call('peers'), count);
  add('signalbox', hub, devices, (seconds) => hub.call('commands', { prefix: 'pump', count, seconds, bytes }));

  const bare = await bench.start<GrpcEchoVerbs>('grpc-echo');
  const bareClients = await bench.start<GrpcEchoVerbs>('grpc-echo');
  await bareClients.call('connect', { address: await bare.call('serve'), count });
  same('echo clients', await bare.call('peers'), count);
  add('bare grpc-js echo', bare, bareClients, (seconds) => bare.call('echo', { count, seconds, bytes }));

  if (bench.hasPeers) {
    const socketIo = await bench.start<SocketIoVerbs>('socket-io');
    const clients = await bench.start<SocketIoVerbs>('socket-io');
    await clients.call('connect', { address: await socketIo.call('serve'), count });
    same('socket.io clients', await socketIo.call('peers'), count);
    add('socket.io emitWithAck', socketIo, clients, (seconds) =>
      socketIo.call('emitWithAck', { count, seconds, bytes }),
    );
  }

  const { signalbox, ...yardsticks } = await takeTurns(
    contenders,
    // Many short turns: what else the machine does hits few of them, and all contenders alike.
    bench.isQuick ? { rounds: 9, seconds: 0.4, warmUpSeconds: 5 } : { rounds: 25, seconds: 0.5 },
  );
  const report = (metric: string, unit: string, number: string): void =>
    bench.report(`${metric}, ${count} devices`, unit, signalbox![number]!, beside(yardsticks, number));
  report('server CPU per command', 'us', 'server');
  report('device CPU per command', 'us', 'client');
  report('commands per second', '1/s', 'perSecond');
  report('p50', 'ms', 'p50Ms');
  report('p99', 'ms', 'p99Ms');
  await bench.stopAll();
}
