export { collect, testCommand } from './commands.ts';
export { ScriptedDevice, type StreamAcceptor, scriptedDevice } from './scripted-device.ts';
export { type VirtualClock, virtualClock } from './virtual-clock.ts';
