import { HubError } from '../errors.ts';
import { type Drain, type Goodbye, GoodbyeReason } from '../protocol/gen/signalbox/v1/device.ts';
import type { DeviceEnd, DeviceState } from './device-state.ts';
import { type DeviceFact, tell } from './facts.ts';
import { goodbyeError } from './goodbye-error.ts';
import { HubStream, type HubStreamOptions, type StreamEnd } from './hub-stream.ts';
import { ReconnectWait, type ReconnectWaitOptions } from './reconnect-wait.ts';

export interface LinkOptions extends HubStreamOptions, ReconnectWaitOptions {
  readonly onState: (state: DeviceState) => void;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

const noop = (): void => undefined;

/** How often a device that is to leave a draining hub looks whether its work is done. */
const busyCheckMs = 100;

/** Keeps a stream to the hub: opens one, goes on in the next where it ended, until the hub or we end it for good. */
export class Link {
  readonly #options: LinkOptions;
  readonly #wait: ReconnectWait;
  #stream: HubStream | undefined;
  #state: DeviceState = { kind: 'connecting', attempt: 1 };
  #session: string | undefined;
  #wasWelcome = false;
  #letGoOfWait = noop;
  #letGoOfDrain = noop;
  /** We have said goodbye, and wait for the hub to end the stream. */
  #onLeft: (() => void) | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#wait = new ReconnectWait(options);
  }

  get state(): DeviceState {
    return this.#state;
  }

  /** Makes the next attempt. */
  connect(): void {
    this.#letGoOfWait();
    this.#setState({ kind: 'connecting', attempt: this.#wait.attempts + 1 });
    if (this.#options.outbox.isExhausted) this.#session = undefined;
    this.#stream = new HubStream(this.#options, this.#session, {
      onWelcome: ({ session }) => {
        this.#wasWelcome = true;
        this.#session = session || undefined;
        this.#wait.onWelcome();
      },
      onOpen: ({ session, epoch, resumed, clientId, node }) =>
        this.#setState({ kind: 'connected', session, epoch, resumed, clientId, node }),
      onDrain: (drain) => this.#onDrain(drain),
      onEnd: (end) => this.#onEnd(end),
    });
    this.#stream.open();
  }

  /** Says goodbye, and resolves when the hub has ended the stream too, or after a second. */
  async leave(): Promise<void> {
    const stream = this.#stream;
    if (stream?.isWelcome)
      await new Promise<void>((resolve) => {
        const letGo = this.#options.clock.after(1000, resolve);
        this.#onLeft = () => {
          letGo();
          resolve();
        };
        stream.leave();
      });
    this.#end({ kind: 'closed' });
  }

  #onDrain(drain: Drain): void {
    const { clock, inbox, observe } = this.#options;
    const reconnectInMs = this.#wait.onDrain(drain);
    tell(observe, { kind: 'drain-announced', reconnectInMs });
    this.#letGoOfDrain();
    const leave = (): void => {
      // The draining hub waits for what runs here, and its callers with it; it ends the stream when it waits no more.
      if (inbox.inFlight().length > 0) this.#letGoOfDrain = clock.after(busyCheckMs, leave);
      else this.#lose(new HubError('unavailable', 'the hub is about to close'));
    };
    this.#letGoOfDrain = clock.after(reconnectInMs, leave);
  }

  #onEnd(end: StreamEnd): void {
    switch (end.kind) {
      case 'refused':
        this.#end(end);
        return;
      case 'goodbye':
        this.#onGoodbye(end.goodbye);
        return;
      case 'closed':
        this.#onClosed(end.error);
        return;
      case 'broken':
        this.#session = undefined;
        this.#lose(end.error);
        return;
      case 'lost':
        this.#lose(end.error);
        return;
      default:
        end satisfies never;
    }
  }

  #onGoodbye(goodbye: Goodbye): void {
    const { reason, message, mayReconnect } = goodbye;
    const error = goodbyeError(reason, message);
    const isProtocolError = reason === GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR;
    const isFinal =
      !mayReconnect ||
      (reason === GoodbyeReason.GOODBYE_REASON_UNAUTHENTICATED && !this.#hasFreshTokens) ||
      (isProtocolError && !this.#wasWelcome);
    if (isProtocolError || reason === GoodbyeReason.GOODBYE_REASON_TAKEN_OVER) this.#session = undefined;
    if (isFinal) this.#refuse(error);
    else this.#lose(error, goodbye);
  }

  #onClosed(error: HubError | undefined): void {
    const isFinal =
      error?.code === 'permission-denied' ||
      (error?.code === 'unauthenticated' && !this.#hasFreshTokens) ||
      ((error?.code === 'unimplemented' || error?.code === 'invalid-argument') && !this.#wasWelcome);
    if (error && isFinal) this.#refuse(error);
    else this.#lose(error ?? new HubError('unavailable', 'the hub ended the stream'));
  }

  get #hasFreshTokens(): boolean {
    return typeof this.#options.token === 'function';
  }

  /** The hub does not want us, and trying again would not change that. */
  #refuse(error: HubError): void {
    if (this.#onLeft) {
      this.#lose(error);
      return;
    }
    tell(this.#options.observe, { kind: 'stream-ended', reason: error.message, error });
    this.#end({ kind: 'refused', error });
  }

  /** This stream is lost; another attempt follows. */
  #lose(error: HubError, goodbye?: Goodbye): void {
    const { clock, inbox, observe } = this.#options;
    this.#drop();
    tell(observe, { kind: 'stream-ended', reason: error.message, error });
    const retryInMs = this.#wait.next(goodbye);
    inbox.release();
    if (this.#onLeft) {
      this.#onLeft();
      return;
    }
    this.#setState({ kind: 'waiting', retryInMs, reason: error.message });
    // A listener may have closed the device just now.
    if (this.#state.kind === 'waiting') this.#letGoOfWait = clock.after(retryInMs, () => this.connect());
  }

  /** Ends for good. */
  #end(end: DeviceEnd): void {
    if (this.#state.kind === 'closed') return;
    this.#drop();
    this.#letGoOfWait();
    this.#onLeft?.();
    this.#setState({ kind: 'closed', end });
  }

  /** Frees the stream there is. */
  #drop(): void {
    this.#letGoOfDrain();
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  #setState(state: DeviceState): void {
    this.#state = state;
    this.#options.onState(state);
  }
}
