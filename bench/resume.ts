import type { DevicesVerbs } from './actors/devices.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { SocketIoVerbs } from './actors/socket-io.ts';
import { type AnyActor, type Bench, beside, during, same } from './harness.ts';

/**
 * Every connection is reset at once. How long until all devices are back by themselves (their own back-off with full
 * jitter spreads them), what it costs the hub, and how long its event loop kept others waiting. Beside it socket.io.
 */
export async function resume(bench: Bench): Promise<void> {
  const count = bench.isQuick ? 500 : 2000;
  const results: Record<string, Record<string, number>> = {};
  const measure = async (
    name: string,
    server: AnyActor,
    cut: () => Promise<{ half: number; most: number; all: number }>,
  ): Promise<void> => {
    await server.own('settledUsage');
    await server.own('loopBegin');
    const { result, cpuUs } = await during({ server }, cut);
    const { p99Ms, maxMs } = await server.own('loopEnd');
    results[name] = { ...result, p99Ms, maxMs, cpu: cpuUs.server! / count };
    await bench.stopAll();
  };

  const hub = await bench.start<HubVerbs>('hub');
  const devices = await bench.start<DevicesVerbs>('devices');
  const { grpc } = await hub.call('open', {});
  await devices.call('open', { address: grpc, prefix: 'pump', count });
  same('devices', await hub.call('peers'), count);
  await measure('signalbox', hub, () => devices.call('cut'));

  if (bench.hasPeers) {
    const socketIo = await bench.start<SocketIoVerbs>('socket-io');
    const clients = await bench.start<SocketIoVerbs>('socket-io');
    await clients.call('connect', { address: await socketIo.call('serve'), count });
    await measure('socket.io', socketIo, () => clients.call('cut'));
  }
  const { signalbox, ...yardsticks } = results;
  const report = (metric: string, unit: string, number: string): void =>
    bench.report(`${metric}, ${count} devices cut at once`, unit, signalbox![number]!, beside(yardsticks, number));
  report('until half are back', 's', 'half');
  report('until all are back', 's', 'all');
  report('server CPU per device', 'us', 'cpu');
  report('p99 of event loop delay', 'ms', 'p99Ms');
  report('longest event loop delay', 'ms', 'maxMs');
}
