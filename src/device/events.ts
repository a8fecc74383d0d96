import { HubError, toHubError } from '../errors.ts';
import { checkForeignEventType } from '../events/channels.ts';
import type { Clock } from '../flow/clock.ts';
import { encodeMessage } from '../protocol/codec.ts';
import { DeviceEvent } from '../protocol/gen/signalbox/v1/device.ts';
import { type DeviceFact, tell } from './facts.ts';
import type { Outbox } from './outbox.ts';

export interface EventsOptions {
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/** The events of a device: numbered, and each watched until the hub has it. */
export class Events {
  readonly #options: EventsOptions;
  readonly #unacknowledged = new Map<number, { name: string; reject: (error: HubError) => void }>();
  #number = 0;
  #isClosed = false;

  constructor(options: EventsOptions) {
    this.#options = options;
  }

  /** See `Device`. */
  readonly emit = (name: string, data: unknown = null): Promise<void> => {
    const { outbox, clock } = this.#options;
    checkForeignEventType(name);
    const number = this.#number + 1;
    const body = encodeMessage(DeviceEvent, { number, name, json: toJson(name, data), atMs: clock.now() });
    if (!outbox.fits(body)) {
      const message = `event "${name}" has ${body.length} bytes, the hub takes ${outbox.maxFrameBytes}`;
      throw new HubError('invalid-argument', message);
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => {
      // Told as a fact; whoever does not wait for the promise must not lose the process by it.
    });
    if (this.#isClosed) this.#drop(name, reject, new HubError('unavailable', 'the device is closed'));
    else if (outbox.isFull) {
      const message = `event "${name}" does not fit: ${outbox.limits} wait already`;
      this.#drop(name, reject, new HubError('resource-exhausted', message));
    } else {
      this.#number = number;
      this.#unacknowledged.set(number, { name, reject });
      const onAcknowledged = (): void => {
        this.#unacknowledged.delete(number);
        resolve();
      };
      outbox.offer({ kind: 'event', subject: name, body, onAcknowledged });
    }
    return promise;
  };

  /** Takes no more, and waits for the hub no longer. */
  close(): void {
    this.#isClosed = true;
    for (const { name, reject } of this.#unacknowledged.values()) {
      const message = `the device was closed before event "${name}" was acknowledged`;
      this.#drop(name, reject, new HubError('unavailable', message));
    }
    this.#unacknowledged.clear();
  }

  #drop(name: string, reject: (error: HubError) => void, error: HubError): void {
    tell(this.#options.observe, { kind: 'event-dropped', name, reason: error.message });
    reject(error);
  }
}

function toJson(name: string, data: unknown): string {
  try {
    return JSON.stringify(data) ?? 'null';
  } catch (error) {
    const { message } = toHubError(error);
    throw new HubError('invalid-argument', `event "${name}" is not JSON: ${message}`, { cause: error });
  }
}
