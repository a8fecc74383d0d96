import { afterEach, beforeEach } from 'vitest';
import { connectDevice, type Device, type DeviceFact, type DeviceOptions } from '../../src/device/index.ts';
import { fakeNetwork } from './fake-wire.ts';
import { echo, gate, TestClock, turns } from './tools.ts';

// Made anew before each test of whoever imports this.
export let clock: TestClock;
export let network: ReturnType<typeof fakeNetwork>;
export let facts: DeviceFact[];
const devices: Device[] = [];

beforeEach(() => {
  clock = new TestClock();
  network = fakeNetwork();
  facts = [];
});
afterEach(async () => {
  for (const device of devices.splice(0)) {
    const closed = device.close({ timeoutMs: 0 });
    await clock.advance(2000);
    await closed;
  }
});

/** A device on a network and clock of its own, half of whose chances are 0.5. */
export async function dialling(options: Partial<DeviceOptions> = {}): Promise<Device> {
  const device = await connectDevice({
    address: 'hub.test:1',
    clientId: 'pump-7',
    waitForWelcome: false,
    handlerGraceMs: 0,
    dial: network.dial,
    clock,
    random: () => 0.5,
    observe: (fact) => facts.push(fact),
    ...options,
  });
  devices.push(device);
  await turns();
  return device;
}

/** Serves `echo` by a handler that notes what it runs, and does not end before `open`. */
export function handleSlowly(device: Device): { ran: string[]; open: () => void } {
  const ran: string[] = [];
  const { passed, open } = gate();
  device.handle(echo, async (_, { commandId }) => {
    ran.push(commandId);
    await passed;
  });
  return { ran, open };
}
