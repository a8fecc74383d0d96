export { collect, testCommand } from './commands.ts';
export { FakeCommand, type FakeTransport, fakeTransport } from './fake-transport.ts';
export {
  type Direction,
  type FaultProxy,
  type FaultProxyOptions,
  faultProxy,
  type ProxyCounts,
  type ProxyFaults,
} from './fault-proxy.ts';
export type { LaneFaults } from './faulty-lane.ts';
export { type MemoryDial, type MemoryDialOptions, memoryDial } from './memory-dial.ts';
export { ScriptedDevice, type StreamAcceptor, scriptedDevice } from './scripted-device.ts';
export { seededRandom } from './seeded-random.ts';
export { type SimulatedWorld, type Simulation, type SimulationOptions, simulate } from './simulate.ts';
export type { SimulatedDevice } from './simulated-device.ts';
export { type VirtualClock, virtualClock } from './virtual-clock.ts';
