import type { Device } from '../device/device.ts';
import { HubError } from '../errors.ts';
import { Hub } from '../hub/hub.ts';
import { memoryCommandStore } from '../hub/memory-command-store.ts';
import type { HubOptions } from '../hub/options.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { fencedStore } from './fenced.ts';
import { seededRandom } from './seeded-random.ts';
import { type SimulatedDevice, simulatedDevice } from './simulated-device.ts';
import { steadyTransport } from './steady-transport.ts';
import { type VirtualClock, virtualClock } from './virtual-clock.ts';

export interface SimulationOptions {
  /** All chance comes from it: the same seed gives the same trace. */
  readonly seed: number;
  /** Devices `device-0`, `device-1`... Default: 3. */
  readonly devices?: number | undefined;
  /** Registers the handlers; called at every boot of a device. */
  readonly boot: (device: Device, clientId: string) => void;
  /** What the callers do. The simulation ends when this resolves, and fails with what it throws. */
  readonly run: (world: SimulatedWorld) => Promise<void>;
  /** Frames take a time drawn between these two, in ms. Default: 1 and 20. */
  readonly latencyMs?: readonly [number, number] | undefined;
  /** On average, in simulated ms; left out: never. The hub's store and the devices' journals survive. */
  readonly cutEveryMs?: number | undefined;
  readonly restartDeviceEveryMs?: number | undefined;
  readonly killHubEveryMs?: number | undefined;
  /** A run that takes longer, in simulated ms, fails: something waits for ever. Default: 1 hour. */
  readonly maxSimulatedMs?: number | undefined;
  readonly hub?: Omit<HubOptions, 'clock' | 'random' | 'commands' | 'observe'> | undefined;
}

/** What the callers of a simulation have. */
export interface SimulatedWorld {
  /** The road to the hub that lives now. Queued commands are found again after a kill; live ones end `outcome-unknown`. */
  readonly transport: CommandTransport;
  readonly devices: readonly SimulatedDevice[];
  readonly clock: VirtualClock;
  readonly random: () => number;
  /** The hub that lives now. */
  readonly hub: Hub;
  sleep(ms: number): Promise<void>;
  /** Kills the hub and starts another on the same store. */
  killHub(): void;
  /** No more accidents of their own from now on. */
  calm(): void;
  /** Writes a line into the trace. */
  note(text: string): void;
}

export interface Simulation {
  readonly seed: number;
  /** What happened, as `<ms> <text>`; command ids are numbered in the order in which they came up. */
  readonly trace: readonly string[];
  readonly elapsedMs: number;
}

/**
 * Runs a hub and devices with the real code, on a clock, a network and machines that are simulated, and lets accidents
 * happen: links break, devices restart, the hub is killed. An hour takes seconds, and a seed that fails fails again.
 * Throws what `run` throws, and `deadline-exceeded` when it does not end; the message names the seed.
 */
export async function simulate(options: SimulationOptions): Promise<Simulation> {
  const { seed, devices: count = 3, boot, run, latencyMs = [1, 20], maxSimulatedMs = 3_600_000 } = options;
  const random = seededRandom(seed);
  const clock = virtualClock();
  const begun = clock.monotonic();
  const trace: string[] = [];
  const ids = new Map<string, number>();
  const note = (text: string): void => {
    const numbered = text.replace(uuid, (id) => `#${ids.get(id) ?? ids.set(id, ids.size + 1).size}`);
    trace.push(`${Math.round(clock.monotonic() - begun)} ${numbered}`);
  };
  const store = memoryCommandStore();
  const startHub = () => {
    const fence = fencedStore(store);
    const { promise: gone, resolve: die } = Promise.withResolvers<void>();
    const hub: Hub = new Hub({
      ...options.hub,
      clock,
      random,
      commands: fence.through,
      observe: (fact) => {
        if (fact.kind === 'command-accepted') note(`${fact.commandId} is accepted for ${fact.clientId}`);
        if (fact.kind === 'command-ended') note(`${fact.commandId} has ended: ${fact.state}`);
        if (fact.kind === 'session-closed') note(`${fact.clientId} has left: ${fact.reason}`);
      },
    });
    return { hub, fence, gone, die };
  };
  let hub = startHub();
  const devices: Awaited<ReturnType<typeof simulatedDevice>>[] = [];
  const host = { clock, random, latencyMs, hub: () => hub.hub, boot, note };
  for (let i = 0; i < count; i++) devices.push(await simulatedDevice(`device-${i}`, host));
  let isCalm = false;

  const killHub = (): void => {
    note('the hub is killed');
    const old = hub;
    old.fence.die();
    hub = startHub();
    old.die();
    for (const device of devices) device.cut();
    void old.hub.close();
  };
  const world: SimulatedWorld = {
    transport: steadyTransport(() => ({ hub: hub.hub, gone: hub.gone })),
    devices,
    clock,
    random,
    get hub() {
      return hub.hub;
    },
    sleep: (ms) => new Promise((resolve) => void clock.after(ms, resolve)),
    killHub,
    calm: () => {
      isCalm = true;
    },
    note,
  };
  const accidents = (everyMs: number | undefined, happen: () => void): void => {
    if (everyMs === undefined) return;
    const next = (): void => {
      clock.after(-Math.log(1 - random()) * everyMs, () => {
        if (isCalm) return;
        happen();
        next();
      });
    };
    next();
  };
  const any = () => devices[Math.floor(random() * devices.length)];
  accidents(options.cutEveryMs, () => any()?.cut());
  accidents(options.restartDeviceEveryMs, () => void any()?.restart());
  accidents(options.killHubEveryMs, killHub);

  let outcome: { readonly error?: unknown } | undefined;
  run(world).then(
    () => {
      outcome = {};
    },
    (error: unknown) => {
      outcome = { error };
    },
  );
  while (!outcome && clock.monotonic() - begun < maxSimulatedMs) await clock.advance(5);
  isCalm = true;
  const elapsedMs = clock.monotonic() - begun;
  for (const device of devices) device.stop();
  await hub.hub.close();
  await clock.advance(2000);
  if (!outcome)
    throw new HubError('deadline-exceeded', `the simulation with seed ${seed} did not end in ${maxSimulatedMs} ms`);
  if ('error' in outcome) {
    note(`failed: ${String(outcome.error)}`);
    throw new Error(
      `the simulation with seed ${seed} failed: ${String(outcome.error)}\n${trace.slice(-40).join('\n')}`,
      {
        cause: outcome.error,
      },
    );
  }
  return { seed, trace, elapsedMs };
}

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
