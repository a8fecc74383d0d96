import type { DevicesVerbs } from './actors/devices.ts';
import type { GrpcEchoVerbs } from './actors/grpc-echo.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { SocketIoVerbs } from './actors/socket-io.ts';
import { type AnyActor, type Bench, same } from './harness.ts';

/** Devices of one process; more would only be short of descriptors. */
const perProcess = 1000;

/**
 * What a device that is connected and silent costs the hub in resident memory, after garbage was collected: the growth
 * from none to all of them, divided. Beside it a bare grpc-js connection with one stream, and a socket.io client.
 */
export async function idle(bench: Bench): Promise<void> {
  const count = bench.isQuick ? 1000 : 5000;
  const kB: Record<string, number> = {};
  const measure = async (
    name: string,
    server: AnyActor,
    peers: () => Promise<number>,
    connect: (from: number, count: number) => Promise<unknown>,
  ): Promise<void> => {
    // The first ones bring code and caches along, which are not theirs.
    await connect(0, 50);
    const before = await server.own('settledUsage');
    for (let from = 50; from < count + 50; from += perProcess)
      await connect(from, Math.min(perProcess, count + 50 - from));
    same(name, await peers(), count + 50);
    const after = await server.own('settledUsage');
    kB[name] = (after.rssBytes - before.rssBytes) / 1024 / count;
    await bench.stopAll();
  };

  const hub = await bench.start<HubVerbs>('hub');
  const { grpc } = await hub.call('open', {});
  await measure(
    'signalbox',
    hub,
    () => hub.call('peers'),
    async (from, count) => {
      const devices = await bench.start<DevicesVerbs>('devices');
      await devices.call('open', { address: grpc, prefix: 'pump', from, count });
    },
  );

  const bare = await bench.start<GrpcEchoVerbs>('grpc-echo');
  const bareAddress = await bare.call('serve');
  await measure(
    'bare grpc-js stream',
    bare,
    () => bare.call('peers'),
    async (_, count) => {
      const clients = await bench.start<GrpcEchoVerbs>('grpc-echo');
      await clients.call('connect', { address: bareAddress, count });
    },
  );

  if (bench.hasPeers) {
    const socketIo = await bench.start<SocketIoVerbs>('socket-io');
    const address = await socketIo.call('serve');
    await measure(
      'socket.io client',
      socketIo,
      () => socketIo.call('peers'),
      async (_, count) => {
        const clients = await bench.start<SocketIoVerbs>('socket-io');
        await clients.call('connect', { address, count });
      },
    );
  }
  const { signalbox, ...yardsticks } = kB;
  bench.report(`resident memory per idle device, ${count} devices`, 'KiB', signalbox!, yardsticks);
}
