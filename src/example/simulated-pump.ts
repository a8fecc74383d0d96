import { CommandRejected } from '../device/command-rejected.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type {
  ConfigUpdateRequest,
  PumpConfig,
  StartRequest,
  TailLogRequest,
} from '../protocol/gen/signalbox/example/v1/pump.ts';

export interface SimulatedPumpOptions {
  /** Where its events go; `device.emit` fits. Default: nowhere. */
  emit?: (type: string, data: unknown) => unknown;
  /** Time that a start takes, in ms. Default: 200. */
  rampMs?: number;
  /** Time between two `temperature` events, in ms; 0 for none. Default: 5000. */
  temperatureEveryMs?: number;
  random?: () => number;
  clock?: Clock;
}

/** What a handler is given beside the request. */
export interface PumpCall {
  readonly signal: AbortSignal;
  progress(progress: { fraction?: number; note?: string }): void;
}

/** What `pump.state` events carry. */
export interface PumpState {
  readonly running: boolean;
  readonly rpm: number;
}

/** A pump that exists in memory only; its methods are those of `PumpService`. */
export interface SimulatedPump {
  start(request: StartRequest, call: PumpCall): Promise<{ rpm: number }>;
  stop(): Promise<{ ranMs: number }>;
  configUpdate(request: ConfigUpdateRequest): Promise<{ config: PumpConfig }>;
  tailLog(request: TailLogRequest, call: Pick<PumpCall, 'signal'>): AsyncIterable<{ number: number; text: string }>;
}

/** A running simulation: what to hand to `device.implement`, and how to end it. */
export interface PumpSimulation {
  readonly service: SimulatedPump;
  readonly state: PumpState;
  /** Stops the events. */
  close(): void;
}

const maxRpm = 6000;
const rampSteps = 4;

/**
 * A pump to try things with: `device.implement(PumpServiceDefinition, simulatedPump({ emit }).service)`. It takes a
 * moment to reach its speed and tells progress, refuses impossible speeds, keeps what a configuration update does not
 * set, and emits `pump.state` at each change and `temperature` now and then.
 */
export function simulatedPump({
  emit = () => undefined,
  rampMs = 200,
  temperatureEveryMs = 5000,
  random = Math.random,
  clock = systemClock,
}: SimulatedPumpOptions = {}): PumpSimulation {
  let rpm = 0;
  let startedAt: number | undefined;
  let config: PumpConfig = { maxRpm, maxBar: 8, displayName: '' };
  let lineNumber = 0;
  let letGo: (() => void) | undefined;

  const state = (): PumpState => ({ running: startedAt !== undefined, rpm });
  const measure = (): void => {
    letGo = clock.after(temperatureEveryMs, () => {
      const celsius = 20 + (rpm / maxRpm) * 60 + random() * 2;
      emit('temperature', { celsius: Math.round(celsius * 10) / 10 });
      measure();
    });
  };
  if (temperatureEveryMs > 0) measure();

  const service: SimulatedPump = {
    async start(request, { signal, progress }) {
      const limit = config.maxRpm ?? maxRpm;
      if (!Number.isInteger(request.rpm) || request.rpm < 1 || request.rpm > limit)
        throw new CommandRejected('rpm-out-of-range', `rpm ${request.rpm} is not within 1 to ${limit}`);
      const before = rpm;
      for (let step = 1; step <= rampSteps; step++) {
        await pause(clock, rampMs / rampSteps, signal);
        rpm = Math.round(before + ((request.rpm - before) * step) / rampSteps);
        if (step < rampSteps) progress({ fraction: step / rampSteps, note: `spinning up: ${rpm} rpm` });
      }
      startedAt ??= clock.monotonic();
      emit('pump.state', state());
      return { rpm };
    },

    async stop() {
      const ranMs = startedAt === undefined ? 0 : Math.round(clock.monotonic() - startedAt);
      startedAt = undefined;
      rpm = 0;
      emit('pump.state', state());
      return { ranMs };
    },

    async configUpdate({ config: changes = {} }) {
      checkConfig(changes);
      const set = Object.entries(changes).filter(([, value]) => value !== undefined);
      config = { ...config, ...Object.fromEntries(set) };
      return { config };
    },

    async *tailLog({ lines, intervalMs }, { signal }) {
      if (!Number.isInteger(lines) || lines < 1 || lines > 10_000)
        throw new CommandRejected('lines-out-of-range', `lines ${lines} is not within 1 to 10000`);
      for (let told = 0; told < lines; told++) {
        if (told > 0) await pause(clock, intervalMs, signal);
        lineNumber += 1;
        yield { number: lineNumber, text: `${rpm} rpm, ${(1 + random() * 2).toFixed(2)} bar` };
      }
    },
  };

  return {
    service,
    get state() {
      return state();
    },
    close: () => letGo?.(),
  };
}

function checkConfig(changes: PumpConfig): void {
  if (changes.maxRpm !== undefined && (changes.maxRpm < 1 || changes.maxRpm > maxRpm))
    throw new CommandRejected('config-out-of-range', `maxRpm ${changes.maxRpm} is not within 1 to ${maxRpm}`);
  if (changes.maxBar !== undefined && !(changes.maxBar > 0 && changes.maxBar <= 100))
    throw new CommandRejected('config-out-of-range', `maxBar ${changes.maxBar} is not within 0 to 100`);
}

/** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = (): void => {
      letGo();
      reject(signal.reason);
    };
    const letGo = clock.after(ms, () => {
      signal.removeEventListener('abort', stop);
      resolve();
    });
    signal.addEventListener('abort', stop, { once: true });
  });
}
