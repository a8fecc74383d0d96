import { connectDevice } from '../device/connect-device.ts';
import type { Device } from '../device/device.ts';
import type { Journal } from '../device/journal/journal.ts';
import { memoryJournal } from '../device/journal/memory-journal.ts';
import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { type Fenced, fencedJournal } from './fenced.ts';
import { type MemoryDial, memoryDial } from './memory-dial.ts';
import type { StreamAcceptor } from './scripted-device.ts';

/** A device of a simulation: the real library on a machine that can lose its power. */
export interface SimulatedDevice {
  readonly clientId: string;
  /** The running program; a new one after each restart. */
  readonly device: Device;
  /** Boots so far. */
  readonly boots: number;
  /** The link breaks; the device comes back by itself. */
  cut(): void;
  /** The program is killed and started again. Its journal is kept, unless it is to be lost. */
  restart(options?: { readonly losesJournal?: boolean }): Promise<void>;
}

export interface SimulatedDeviceHost {
  readonly clock: Clock;
  readonly random: () => number;
  readonly latencyMs: readonly [number, number];
  readonly hub: () => StreamAcceptor | undefined;
  readonly boot: (device: Device, clientId: string) => void;
  readonly note: (text: string) => void;
}

/** Boots a simulated device. */
export async function simulatedDevice(
  clientId: string,
  host: SimulatedDeviceHost,
): Promise<SimulatedDevice & { stop(): void }> {
  let journal: Journal = memoryJournal();
  let boots = 0;
  let running: { device: Device; dial: MemoryDial; fence: Fenced<Journal>; kill: () => void } | undefined;

  const boot = async (): Promise<void> => {
    boots++;
    const { clock, random, latencyMs, hub, note } = host;
    const fence = fencedJournal(journal);
    const road = memoryDial(hub, { clock, random, latencyMs });
    let kill = (): void => undefined;
    const device = await connectDevice({
      address: 'memory',
      clientId,
      journal: fence.through,
      clock,
      random,
      waitForWelcome: false,
      observe: (fact) => {
        if (fact.kind === 'state-changed' && fact.state.kind !== 'closed') note(`${clientId} is ${fact.state.kind}`);
      },
      dial: (listener, token) => {
        // The one end that a device accepts at once, whatever it is doing.
        kill = () => listener.onClosed(new HubError('permission-denied', 'the program was killed'));
        return road.dial(listener, token);
      },
    });
    host.boot(device, clientId);
    running = { device, dial: road, fence, kill: () => kill() };
  };

  const stop = (): void => {
    running?.fence.die();
    running?.dial.cut();
    running?.kill();
    // Between two attempts there is no stream that could tell it.
    void running?.device.close({ timeoutMs: 0 });
  };

  await boot();
  return {
    clientId,
    get device() {
      return running!.device;
    },
    get boots() {
      return boots;
    },
    cut: () => running?.dial.cut(),
    async restart({ losesJournal = false } = {}) {
      stop();
      if (losesJournal) journal = memoryJournal();
      await boot();
    },
    stop,
  };
}
