export { collect, testCommand } from './commands.ts';
export {
  type Direction,
  type FaultProxy,
  type FaultProxyOptions,
  faultProxy,
  type ProxyCounts,
  type ProxyFaults,
} from './fault-proxy.ts';
export type { LaneFaults } from './faulty-lane.ts';
export { ScriptedDevice, type StreamAcceptor, scriptedDevice } from './scripted-device.ts';
export { seededRandom } from './seeded-random.ts';
export { type VirtualClock, virtualClock } from './virtual-clock.ts';
