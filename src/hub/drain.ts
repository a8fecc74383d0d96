import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import { within } from '../flow/within.ts';
import type { Settings } from './options.ts';
import type { Session } from './session.ts';

/** How a hub is emptied before it closes. */
export interface DrainOptions {
  /** Running commands have this many ms to end. Default: 25,000. */
  timeoutMs?: number;
  /** Devices come back after this many ms... Default: 1,000. */
  reconnectAfterMs?: number;
  /** ...plus a random part of this many. Default: 5,000. */
  spreadMs?: number;
}

/** What a drain needs of the hub around it. */
export interface DrainHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly sessions: ReadonlySet<Session>;
  /** Streams that have not said hello. */
  readonly greeting: ReadonlySet<Session>;
  /** Whether a live command has not ended. */
  hasLive(): boolean;
  /** Whether a command is on its way to the device of this session. */
  isBusy(session: Session): boolean;
}

/** How a device is told to go to another hub. */
const sentAway = {
  reason: 'draining',
  message: 'the hub is shutting down',
  mayReconnect: true,
  retryAfterMs: 0,
} as const;
/** A device that has something to do may stay so many ms longer than the drain said. */
const busyDevicesMs = 1000;
/** After a drain, devices that had to go have this many ms to turn up at another hub. */
const handOverMs = 3000;

/**
 * Empties a hub: tells devices when to come back, waits for running commands to end, and sends away who is still there.
 *
 * One of several hubs serves each device until it leaves, and sends it to the others a second after its time; a live
 * command that runs on goes with its device.
 */
export class Drain {
  readonly #host: DrainHost;
  readonly #options: Required<DrainOptions>;
  #done: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(host: DrainHost, { timeoutMs = 25_000, reconnectAfterMs = 1000, spreadMs = 5000 }: DrainOptions) {
    this.#host = host;
    this.#options = { timeoutMs, reconnectAfterMs, spreadMs };
  }

  /** After how many ms one device, or one caller, may come again: another time for each who asks. */
  retryAfterMs(): number {
    const { reconnectAfterMs, spreadMs } = this.#options;
    return Math.round(reconnectAfterMs + this.#host.settings.random() * spreadMs);
  }

  /** Begins it. Resolves when all have gone, or the time is over. Calling it again waits for the same end. */
  run(): Promise<void> {
    this.#done ??= this.#run();
    return this.#done;
  }

  /** Waits for nobody any more. */
  cutShort(): void {
    this.#onIdle?.();
  }

  /** A stream or a command has ended: perhaps it was the last. Cheap where nobody waits for that. */
  noteIdle(): void {
    if (!this.#onIdle) return;
    const { settings, sessions } = this.#host;
    if (settings.claims) {
      if (sessions.size > 0 || this.#host.hasLive()) return;
    } else for (const session of sessions) if (this.#host.isBusy(session)) return;
    this.#onIdle();
  }

  async #run(): Promise<void> {
    const { settings, wheel, sessions, greeting } = this.#host;
    const { timeoutMs, reconnectAfterMs, spreadMs } = this.#options;
    for (const session of sessions) {
      session.send(0, { $case: 'drain', value: { reconnectAfterMs, spreadMs } });
      // A device leaves by itself when it has nothing to do. One that always has is sent, and takes its commands along.
      if (settings.claims) wheel.set(new Alarm(() => session.end(sentAway)), this.retryAfterMs() + busyDevicesMs);
    }
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.noteIdle();
    });
    await within(settings.clock, idle, timeoutMs);
    for (const session of [...sessions, ...greeting])
      session.end(settings.claims ? sentAway : { ...sentAway, retryAfterMs: this.retryAfterMs() });
    // The hubs to which the devices go ask for the live commands that are left.
    const isHandingOver = settings.claims && timeoutMs > 0 && this.#host.hasLive();
    if (isHandingOver) await within(settings.clock, idle, handOverMs);
    else this.#onIdle = undefined;
  }
}
