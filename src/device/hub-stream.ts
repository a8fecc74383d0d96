import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { type DownFrame, decodeDown, encodeUp, protocolVersion, type UpBody } from '../protocol/frames.ts';
import {
  type Drain,
  type Goodbye,
  GoodbyeReason,
  type Hello,
  type Welcome,
} from '../protocol/gen/signalbox/v1/device.ts';
import type { Inbox } from './inbox.ts';
import { watchLiveness } from './liveness.ts';
import type { Outbox } from './outbox.ts';
import { type TokenSource, takeToken } from './token-source.ts';
import type { Dial, HubWire } from './wire/hub-wire.ts';

export interface HubStreamOptions {
  readonly dial: Dial;
  readonly token: TokenSource | undefined;
  readonly hello: Pick<Hello, 'clientId' | 'bootId' | 'journalId' | 'labels' | 'window' | 'agent'>;
  readonly inbox: Inbox;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  /** Asks that what the outbox owes is sent once this turn of the event loop is over. */
  readonly wantTurnEnd: () => void;
}

/** What a stream tells its owner. */
export interface HubStreamListener {
  /** The hub has taken our hello. The outbox and the inbox move only now, and may end the stream at once. */
  onWelcome(welcome: Welcome): void;
  /** They have, and the stream lives. */
  onOpen(welcome: Welcome): void;
  onDrain(drain: Drain): void;
  /** Called once, when everything is freed; not after `destroy`. */
  onEnd(end: StreamEnd): void;
}

/** How a stream ended. */
export type StreamEnd =
  /** It cannot be had, and trying again would not help. */
  | { readonly kind: 'refused'; readonly error: HubError }
  | { readonly kind: 'goodbye'; readonly goodbye: Goodbye }
  /** The wire was closed; undefined: in peace. */
  | { readonly kind: 'closed'; readonly error: HubError | undefined }
  /** The hub broke the protocol: what this session holds cannot be trusted any more. */
  | { readonly kind: 'broken'; readonly error: HubError }
  /** Nothing was heard for too long, or there was no token to begin with. */
  | { readonly kind: 'lost'; readonly error: HubError };

const noop = (): void => undefined;

/** One stream to the hub, from dialling to its end: carries what is in the outbox, and fills the inbox. */
export class HubStream {
  readonly #options: HubStreamOptions;
  readonly #listener: HubStreamListener;
  /** The session that is to go on. */
  readonly #session: string | undefined;
  #wire: HubWire | undefined;
  #isWelcome = false;
  #isOver = false;
  /** Set once a command was not taken: what comes from then on is heard, but not acknowledged. */
  #isDeaf = false;
  /** Highest number that came in this session. */
  #lastSeq = 0;
  #heardAt = 0;
  #isBlocked = false;
  /** The newest ping that is not answered yet, as the wire is full. */
  #pongDue: number | undefined;
  #letGoOfTimeout = noop;
  #letGoOfLiveness = noop;

  constructor(options: HubStreamOptions, session: string | undefined, listener: HubStreamListener) {
    this.#options = options;
    this.#session = session;
    this.#listener = listener;
  }

  /** Whether the hub has taken our hello. */
  get isWelcome(): boolean {
    return this.#isWelcome;
  }

  open(): void {
    const { clock, connectTimeoutMs, token } = this.#options;
    this.#letGoOfTimeout = clock.after(connectTimeoutMs, () => this.#lose(`no welcome within ${connectTimeoutMs} ms`));
    takeToken(
      token,
      (taken) => this.#dial(taken),
      // Another attempt may have a better one, if tokens are made.
      (error) => this.#end({ kind: typeof token === 'function' ? 'lost' : 'refused', error }),
    );
  }

  /** Says goodbye, and ends our side. */
  leave(): void {
    this.#goodbye(GoodbyeReason.GOODBYE_REASON_DISCONNECTED, 'the device was closed', false);
    this.#wire?.end();
  }

  /** Ends it now, and frees everything. */
  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#letGoOfTimeout();
    this.#letGoOfLiveness();
    this.#options.outbox.detach();
    this.#wire?.destroy();
  }

  #end(end: StreamEnd): void {
    if (this.#isOver) return;
    this.destroy();
    this.#listener.onEnd(end);
  }

  #lose(message: string): void {
    this.#end({ kind: 'lost', error: new HubError('unavailable', message) });
  }

  #dial(token: string | undefined): void {
    if (this.#isOver) return;
    const { dial, hello, inbox, outbox } = this.#options;
    // Nothing is begun from here to the welcome: both sides agree on what is.
    inbox.hold();
    const inFlight = inbox.inFlight();
    try {
      this.#wire = dial(
        {
          onFrame: (bytes) => this.#onFrame(bytes),
          onWritable: () => this.#onWritable(),
          onClosed: (error) => this.#end({ kind: 'closed', error }),
        },
        token,
      );
    } catch (error) {
      this.#end({ kind: 'refused', error: toHubError(error) });
      return;
    }
    const resume = this.#session === undefined ? undefined : { session: this.#session, lastSeq: outbox.received };
    this.#sendBody({ $case: 'hello', value: { ...hello, protocol: protocolVersion, resume, inFlight } });
  }

  #onFrame(bytes: Buffer): void {
    if (this.#isOver) return;
    this.#heardAt = this.#options.clock.monotonic();
    const { outbox, wantTurnEnd } = this.#options;
    try {
      this.#take(decodeDown(bytes));
      if (outbox.owesAck) wantTurnEnd();
    } catch (error) {
      this.#breakOff(toHubError(error));
    }
  }

  #take(frame: DownFrame): void {
    const { inbox, outbox } = this.#options;
    const { body, seq, ack } = frame;
    if (!this.#isWelcome) {
      if (body?.$case === 'welcome') this.#onWelcome(body.value);
      else if (body?.$case === 'goodbye') this.#end({ kind: 'goodbye', goodbye: body.value });
      else throw new HubError('internal', `the hub's first frame is ${body?.$case ?? 'empty'}, not a welcome`);
      return;
    }
    if (ack > 0) outbox.acknowledge(ack);
    if (body?.$case === 'command' && !inbox.takesCommands) this.#isDeaf = true;
    if (seq > 0) {
      if (seq <= this.#lastSeq) {
        if (!this.#isDeaf) outbox.receiveAgain();
        return;
      }
      if (seq !== this.#lastSeq + 1)
        throw new HubError('internal', `the hub's frame ${seq} came after ${this.#lastSeq}`);
      this.#lastSeq = seq;
      // Before the body is taken, so that a result that comes at once carries the acknowledgement.
      if (!this.#isDeaf) outbox.receive(seq);
    }
    switch (body?.$case) {
      case undefined:
      case 'pong':
        return;
      case 'welcome':
        throw new HubError('internal', 'the hub sent a second welcome');
      case 'command':
        if (body.value.id === '') throw new HubError('internal', 'the hub sent a command without an id');
        if (!this.#isDeaf) inbox.receive(body.value);
        return;
      case 'cancel':
        inbox.cancel(body.value.commandId, body.value.reason);
        return;
      case 'ping':
        this.#pong(body.value.nonce);
        return;
      case 'drain':
        this.#listener.onDrain(body.value);
        return;
      case 'goodbye':
        this.#end({ kind: 'goodbye', goodbye: body.value });
        return;
      default:
        body satisfies never;
    }
  }

  #onWelcome(welcome: Welcome): void {
    const { inbox, outbox } = this.#options;
    const { resumed, lastSeq, maxFrameBytes, heartbeatMs, livenessMs } = welcome;
    if (resumed && this.#session === undefined)
      throw new HubError('internal', 'the hub resumes a session that was not asked for');
    this.#isWelcome = true;
    this.#letGoOfTimeout();
    this.#listener.onWelcome(welcome);
    if (heartbeatMs > 0) this.#watch(heartbeatMs + livenessMs);
    if (maxFrameBytes > 0) outbox.maxFrameBytes = maxFrameBytes;
    this.#lastSeq = resumed ? outbox.received : 0;
    if (!resumed) inbox.dropWaiting();
    outbox.attach((bytes) => this.#send(bytes), resumed ? lastSeq : undefined);
    inbox.expectHandlers();
    inbox.release();
    if (!this.#isOver) this.#listener.onOpen(welcome);
  }

  /** Takes the hub for dead after `silenceMs` in which nothing came. */
  #watch(silenceMs: number): void {
    this.#letGoOfLiveness = watchLiveness(
      this.#options.clock,
      silenceMs,
      () => this.#heardAt,
      () => this.#lose(`nothing was heard for ${silenceMs} ms`),
    );
  }

  #breakOff(error: HubError): void {
    if (this.#isOver) return;
    this.#goodbye(GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR, error.message, true);
    this.#end({ kind: 'broken', error });
  }

  #onWritable(): void {
    if (this.#isOver) return;
    this.#isBlocked = false;
    if (this.#pongDue !== undefined) {
      const nonce = this.#pongDue;
      this.#pongDue = undefined;
      this.#pong(nonce);
    }
    this.#options.outbox.onWritable();
  }

  /** Answers at once, or, while the wire is full, the newest ping as soon as it is not. */
  #pong(nonce: number): void {
    if (this.#isBlocked) this.#pongDue = nonce;
    else this.#sendBody({ $case: 'pong', value: { nonce } });
  }

  #goodbye(reason: GoodbyeReason, message: string, mayReconnect: boolean): void {
    this.#sendBody({ $case: 'goodbye', value: { reason, message, mayReconnect, retryAfterMs: 0 } });
  }

  #sendBody(body: UpBody): void {
    this.#send(encodeUp({ seq: 0, ack: 0, body }));
  }

  #send(bytes: Buffer): boolean {
    const takesMore = this.#wire?.send(bytes) ?? false;
    this.#isBlocked = !takesMore;
    return takesMore;
  }
}
