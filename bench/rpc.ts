import { spawnSync } from 'node:child_process';
import type { CallersVerbs } from './actors/callers.ts';
import type { DevicesVerbs } from './actors/devices.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { NatsVerbs } from './actors/nats.ts';
import type { NiceEchoVerbs } from './actors/nice-echo.ts';
import { type Bench, beside, type Contender, perOperation, same, takeTurns } from './harness.ts';

/**
 * The same command from another process, through `SendCommandToClient`: caller -> hub -> device and back. Beside it a
 * unary echo of nice-grpc, which has no device behind it, and NATS request/reply, which has.
 */
export async function rpc(bench: Bench): Promise<void> {
  const count = 100;
  const bytes = 100;
  const contenders: Record<string, Contender> = {};

  const hub = await bench.start<HubVerbs>('hub');
  const devices = await bench.start<DevicesVerbs>('devices');
  const callers = await bench.start<CallersVerbs>('callers');
  const { grpc } = await hub.call('open', {});
  await devices.call('open', { address: grpc, prefix: 'pump', count });
  same('devices', await hub.call('peers'), count);
  await callers.call('open', { address: grpc, prefix: 'pump', count });
  contenders.signalbox = (seconds) =>
    perOperation({ server: hub, caller: callers, device: devices }, () => callers.call('commands', { seconds, bytes }));

  const echo = await bench.start<NiceEchoVerbs>('nice-echo');
  const echoCallers = await bench.start<NiceEchoVerbs>('nice-echo');
  await echoCallers.call('connect', { address: await echo.call('serve') });
  contenders['nice-grpc unary echo'] = (seconds) =>
    perOperation({ server: echo, caller: echoCallers }, () => echoCallers.call('call', { count, seconds, bytes }));

  if (bench.hasPeers && spawnSync('nats-server', ['--version']).status === 0) {
    const nats = await bench.start<NatsVerbs>('nats');
    const responders = await bench.start<NatsVerbs>('nats');
    const requesters = await bench.start<NatsVerbs>('nats');
    const address = await nats.call('serve');
    await responders.call('respond', { address, count });
    await requesters.call('connect', { address });
    contenders['NATS request/reply'] = (seconds) =>
      perOperation({ server: nats, device: responders, caller: requesters }, () =>
        requesters.call('call', { count, seconds, bytes }),
      );
  } else bench.say('skipped: NATS request/reply, nats-server is not installed');

  const turns = bench.isQuick ? { rounds: 3, seconds: 1, warmUpSeconds: 5 } : { rounds: 7, seconds: 2 };
  const { signalbox, ...yardsticks } = withTotals(await takeTurns(contenders, turns));
  const report = (metric: string, unit: string, number: string): void =>
    bench.report(metric, unit, signalbox![number]!, beside(yardsticks, number));
  report('hub CPU per command', 'us', 'server');
  report('caller CPU per command', 'us', 'caller');
  report('hub and caller CPU per command', 'us', 'total');
  report('device CPU per command', 'us', 'device');
  report('commands per second', '1/s', 'perSecond');
  report('p50', 'ms', 'p50Ms');
  report('p99', 'ms', 'p99Ms');
}

/** Adds server and caller up. */
function withTotals(results: Record<string, Record<string, number>>): Record<string, Record<string, number>> {
  for (const numbers of Object.values(results))
    if (numbers.server !== undefined && numbers.caller !== undefined) numbers.total = numbers.server + numbers.caller;
  return results;
}
