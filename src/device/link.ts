import { HubError, toHubError } from '../errors.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import { tokenFault } from '../protocol/checks.ts';
import { type DownFrame, decodeDown, encodeUp, protocolVersion, type UpBody } from '../protocol/frames.ts';
import {
  type DeviceCommand,
  type Drain,
  type Goodbye,
  GoodbyeReason,
  type Hello,
  type Welcome,
} from '../protocol/gen/signalbox/v1/device.ts';
import type { DeviceEnd, DeviceState } from './device-state.ts';
import { type DeviceFact, tell } from './facts.ts';
import { goodbyeError } from './goodbye-error.ts';
import type { Dial, HubWire } from './hub-wire.ts';
import type { Outbox } from './outbox.ts';

/** A bearer token, or what makes a fresh one for each attempt to connect. */
export type TokenSource = string | (() => string | Promise<string>);

/** What happens on the link, for its owner. */
export interface LinkEvents {
  /** Ids for the hello that is about to be sent; nothing is to be begun until `onWelcome` or `onLost`. */
  onHello(): string[];
  /** `attach` lets the outbox send; what must not be sent any more is to be dropped before. */
  onWelcome(welcome: Welcome, attach: () => void): void;
  /** The stream is gone. */
  onLost(): void;
  onCommand(command: DeviceCommand): void;
  onCancel(commandId: string, reason: string): void;
  onState(state: DeviceState): void;
  /** Whether commands run here, or results wait to be taken over. */
  isBusy(): boolean;
}

export interface LinkOptions {
  readonly dial: Dial;
  readonly token: TokenSource | undefined;
  readonly hello: Pick<Hello, 'clientId' | 'bootId' | 'journalId' | 'labels' | 'window' | 'agent'>;
  readonly outbox: Outbox;
  readonly events: LinkEvents;
  readonly clock: Clock;
  readonly random: () => number;
  readonly connectTimeoutMs: number;
  readonly backoff: { readonly minMs?: number | undefined; readonly maxMs?: number | undefined };
  /** A stream that lived this long was stable: the next attempt is made soon again. */
  readonly stableAfterMs: number;
  readonly wantTurnEnd: () => void;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/** One stream, from dialling to its end. */
interface Attempt {
  wire: HubWire | undefined;
  welcome: Welcome | undefined;
  welcomedAt: number;
  heardAt: number;
  letGoOfTimeout: () => void;
  letGoOfLiveness: () => void;
  letGoOfDrain: () => void;
  pongDue: number | undefined;
  isBlocked: boolean;
  isJudged: boolean;
}

const noop = (): void => undefined;

/** Where the wait after a takeover begins, when the hub gives no hint: two devices with one id must not fight fast. */
const takenOverMs = 15_000;

/** How often a device that is to leave a draining hub looks whether its work is done. */
const busyCheckMs = 100;

/** Keeps a stream to the hub: connects, resumes, watches over it, and connects again. */
export class Link {
  readonly #options: LinkOptions;
  readonly #backoff: Backoff;
  #attempt: Attempt | undefined;
  #state: DeviceState = { kind: 'connecting', attempt: 1 };
  #session: string | undefined;
  #wasWelcome = false;
  #letGoOfWait: () => void = noop;
  #onEnded: (() => void) | undefined;
  #takesCommands = true;
  /** Set once a command was not taken: what comes from then on is heard, but not acknowledged. */
  #isDeaf = false;
  /** Highest number that came in this session. */
  #lastSeq = 0;
  /** When the hub has asked us to connect again, monotonic. */
  #drainAt: number | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ ...options.backoff, random: options.random });
  }

  get state(): DeviceState {
    return this.#state;
  }

  /** Makes the next attempt. */
  connect(): void {
    const { clock, connectTimeoutMs, token } = this.#options;
    this.#letGoOfWait();
    this.#setState({ kind: 'connecting', attempt: this.#backoff.attempts + 1 });
    const attempt: Attempt = {
      wire: undefined,
      welcome: undefined,
      welcomedAt: 0,
      heardAt: 0,
      letGoOfTimeout: noop,
      letGoOfLiveness: noop,
      pongDue: undefined,
      isBlocked: false,
      isJudged: false,
      letGoOfDrain: noop,
    };
    this.#attempt = attempt;
    attempt.letGoOfTimeout = clock.after(connectTimeoutMs, () =>
      this.#lose(attempt, new HubError('unavailable', `no welcome within ${connectTimeoutMs} ms`)),
    );
    if (typeof token === 'function')
      Promise.resolve()
        .then(token)
        .then(
          (fresh) => this.#dial(attempt, fresh),
          (error: unknown) =>
            this.#lose(attempt, new HubError('unavailable', 'the token could not be had', { cause: error })),
        );
    else this.#dial(attempt, token);
  }

  /** Further commands are neither taken nor acknowledged: the hub keeps them. */
  takeNoCommands(): void {
    this.#takesCommands = false;
  }

  /** Says goodbye, and resolves when the hub has ended the stream too, or after a second. */
  async leave(): Promise<void> {
    const attempt = this.#attempt;
    const { clock } = this.#options;
    if (attempt?.wire && attempt.welcome) {
      const { wire } = attempt;
      const value: Goodbye = {
        reason: GoodbyeReason.GOODBYE_REASON_DISCONNECTED,
        message: 'the device was closed',
        mayReconnect: false,
        retryAfterMs: 0,
      };
      await new Promise<void>((resolve) => {
        const letGo = clock.after(1000, resolve);
        this.#onEnded = () => {
          letGo();
          resolve();
        };
        this.#sendBody(attempt, wire, { $case: 'goodbye', value });
        wire.end();
      });
    }
    this.end({ kind: 'closed' });
  }

  /** Ends for good. */
  end(end: DeviceEnd): void {
    if (this.#state.kind === 'closed') return;
    this.#drop();
    this.#letGoOfWait();
    this.#onEnded?.();
    this.#setState({ kind: 'closed', end });
  }

  /** To be called when a turn of the event loop is over. */
  endTurn(): void {
    if (this.#attempt?.welcome) this.#options.outbox.flushAck();
  }

  #dial(attempt: Attempt, token: string | undefined): void {
    if (attempt !== this.#attempt) return;
    const fault = token === undefined ? undefined : tokenFault(token);
    if (fault !== undefined) {
      const error = new HubError('unauthenticated', fault);
      if (typeof this.#options.token === 'function') this.#lose(attempt, error);
      else this.end({ kind: 'refused', error });
      return;
    }
    const { dial, hello, outbox, events } = this.#options;
    const inFlight = events.onHello();
    const session = outbox.isExhausted ? undefined : this.#session;
    this.#session = session;
    try {
      attempt.wire = dial(
        {
          onFrame: (bytes) => this.#onFrame(attempt, bytes),
          onWritable: () => this.#onWritable(attempt),
          onClosed: (error) => this.#onClosed(attempt, error),
        },
        token,
      );
    } catch (error) {
      this.end({ kind: 'refused', error: toHubError(error) });
      return;
    }
    const resume = session === undefined ? undefined : { session, lastSeq: outbox.received };
    this.#sendBody(attempt, attempt.wire, {
      $case: 'hello',
      value: { ...hello, protocol: protocolVersion, resume, inFlight },
    });
  }

  #onFrame(attempt: Attempt, bytes: Buffer): void {
    if (attempt !== this.#attempt) return;
    attempt.heardAt = this.#options.clock.monotonic();
    try {
      this.#take(attempt, decodeDown(bytes));
    } catch (error) {
      this.#breakOff(attempt, toHubError(error));
    }
  }

  #take(attempt: Attempt, frame: DownFrame): void {
    const { outbox, wantTurnEnd } = this.#options;
    const { body, seq, ack } = frame;
    if (!attempt.welcome) {
      if (body?.$case === 'welcome') this.#onWelcome(attempt, body.value);
      else if (body?.$case === 'goodbye') this.#onGoodbye(attempt, body.value);
      else throw new HubError('internal', `the hub's first frame is ${body?.$case ?? 'empty'}, not a welcome`);
      return;
    }
    if (ack > 0) outbox.acknowledge(ack);
    if (body?.$case === 'command' && !this.#takesCommands) this.#isDeaf = true;
    if (seq > 0) {
      wantTurnEnd();
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
        if (this.#takesCommands) this.#options.events.onCommand(body.value);
        return;
      case 'cancel':
        this.#options.events.onCancel(body.value.commandId, body.value.reason);
        return;
      case 'ping':
        this.#pong(attempt, body.value.nonce);
        return;
      case 'drain':
        this.#onDrain(attempt, body.value);
        return;
      case 'goodbye':
        this.#onGoodbye(attempt, body.value);
        return;
      default:
        body satisfies never;
    }
  }

  #onWelcome(attempt: Attempt, welcome: Welcome): void {
    const { outbox, clock, events } = this.#options;
    const wire = attempt.wire as HubWire;
    if (welcome.resumed && this.#session === undefined)
      throw new HubError('internal', 'the hub resumes a session that was not asked for');
    attempt.welcome = welcome;
    attempt.welcomedAt = clock.monotonic();
    attempt.letGoOfTimeout();
    this.#wasWelcome = true;
    this.#session = welcome.session || undefined;
    this.#drainAt = undefined;
    this.#lastSeq = welcome.resumed ? outbox.received : 0;
    const { heartbeatMs, livenessMs } = welcome;
    if (heartbeatMs > 0) this.#watch(attempt, heartbeatMs + livenessMs);
    events.onWelcome(welcome, () => {
      const send = (bytes: Buffer): boolean => this.#send(attempt, wire, bytes);
      outbox.attach(send, welcome.resumed ? welcome.lastSeq : undefined);
    });
    if (attempt !== this.#attempt) return;
    const { session, epoch, resumed, clientId, node } = welcome;
    this.#setState({ kind: 'connected', session, epoch, resumed, clientId, node });
  }

  #onDrain(attempt: Attempt, { reconnectAfterMs, spreadMs }: Drain): void {
    const { clock, random, observe } = this.#options;
    const inMs = reconnectAfterMs + random() * spreadMs;
    this.#drainAt = clock.monotonic() + inMs;
    tell(observe, { kind: 'drain-announced', reconnectInMs: inMs });
    attempt.letGoOfDrain();
    const leave = (): void => {
      // The draining hub waits for what runs here, and its callers with it; it ends the stream when it waits no more.
      if (this.#options.events.isBusy()) attempt.letGoOfDrain = clock.after(busyCheckMs, leave);
      else this.#lose(attempt, new HubError('unavailable', 'the hub is about to close'), 0);
    };
    attempt.letGoOfDrain = clock.after(inMs, leave);
  }

  #onGoodbye(attempt: Attempt, { reason, message, mayReconnect, retryAfterMs }: Goodbye): void {
    const error = goodbyeError(reason, message);
    const isFinal =
      !mayReconnect ||
      (reason === GoodbyeReason.GOODBYE_REASON_UNAUTHENTICATED && typeof this.#options.token !== 'function') ||
      (reason === GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR && !this.#wasWelcome);
    if (isFinal && !this.#onEnded) {
      this.#fail(error);
      return;
    }
    const isTakenOver = reason === GoodbyeReason.GOODBYE_REASON_TAKEN_OVER;
    if (isTakenOver || reason === GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR) this.#session = undefined;
    // The later one of two times that were drawn by chance would bring most devices back late and together.
    const hasTime =
      reason === GoodbyeReason.GOODBYE_REASON_DRAINING && (this.#drainAt ?? 0) > this.#options.clock.monotonic();
    const leastMs = hasTime ? 0 : retryAfterMs || (isTakenOver ? takenOverMs : 0);
    this.#lose(attempt, error, leastMs > 0 ? leastMs + this.#nextWait(attempt) : undefined);
  }

  #onClosed(attempt: Attempt, error: HubError | undefined): void {
    if (attempt !== this.#attempt) return;
    const isFinal =
      error?.code === 'permission-denied' ||
      (error?.code === 'unauthenticated' && typeof this.#options.token !== 'function') ||
      ((error?.code === 'unimplemented' || error?.code === 'invalid-argument') && !this.#wasWelcome);
    if (error && isFinal && !this.#onEnded) this.#fail(error);
    else this.#lose(attempt, error ?? new HubError('unavailable', 'the hub ended the stream'));
  }

  /** The hub broke the protocol: what this session holds cannot be trusted any more. */
  #breakOff(attempt: Attempt, error: HubError): void {
    const value: Goodbye = {
      reason: GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR,
      message: error.message,
      mayReconnect: true,
      retryAfterMs: 0,
    };
    if (attempt.wire) this.#sendBody(attempt, attempt.wire, { $case: 'goodbye', value });
    this.#session = undefined;
    this.#lose(attempt, error);
  }

  #fail(error: HubError): void {
    tell(this.#options.observe, { kind: 'stream-ended', reason: error.message, error });
    this.end({ kind: 'refused', error });
  }

  /** This stream is lost; another attempt follows after `waitMs`, by default after what was announced or chance says. */
  #lose(attempt: Attempt, error: HubError, waitMs?: number): void {
    if (attempt !== this.#attempt) return;
    const { clock, events, observe } = this.#options;
    this.#drop();
    tell(observe, { kind: 'stream-ended', reason: error.message, error });
    this.#judge(attempt);
    const announced = this.#drainAt === undefined ? undefined : Math.max(0, this.#drainAt - clock.monotonic());
    const retryInMs = Math.max(announced ?? 0, waitMs ?? announced ?? this.#nextWait(attempt));
    this.#drainAt = undefined;
    events.onLost();
    if (this.#onEnded) {
      this.#onEnded();
      return;
    }
    this.#setState({ kind: 'waiting', retryInMs, reason: error.message });
    // A listener may have closed the device just now.
    if (this.#state.kind === 'waiting') this.#letGoOfWait = clock.after(retryInMs, () => this.connect());
  }

  #nextWait(attempt: Attempt): number {
    this.#judge(attempt);
    return this.#backoff.next();
  }

  /** Begins with short waits again after a stream that lived long enough; asked once for each. */
  #judge(attempt: Attempt): void {
    const { clock, stableAfterMs } = this.#options;
    if (!attempt.welcome || attempt.isJudged) return;
    attempt.isJudged = true;
    if (clock.monotonic() - attempt.welcomedAt >= stableAfterMs) this.#backoff.reset();
  }

  /** Frees the stream there is. */
  #drop(): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    this.#attempt = undefined;
    attempt.letGoOfTimeout();
    attempt.letGoOfLiveness();
    attempt.letGoOfDrain();
    this.#options.outbox.detach();
    attempt.wire?.destroy();
  }

  /** Takes the hub for dead after `silenceMs` in which nothing came. */
  #watch(attempt: Attempt, silenceMs: number): void {
    const { clock } = this.#options;
    const silence = (): number => clock.monotonic() - attempt.heardAt;
    const isDead = (): boolean => attempt === this.#attempt && silence() >= silenceMs;
    const arm = (): void => {
      attempt.letGoOfLiveness = clock.after(Math.max(1, silenceMs - silence()), () => {
        if (!isDead()) {
          arm();
          return;
        }
        // Perhaps it was us who slept: what has come meanwhile is read before we judge.
        setImmediate(() => {
          if (attempt !== this.#attempt) return;
          if (isDead()) this.#lose(attempt, new HubError('unavailable', `nothing was heard for ${silenceMs} ms`));
          else arm();
        });
      });
    };
    arm();
  }

  #onWritable(attempt: Attempt): void {
    if (attempt !== this.#attempt) return;
    attempt.isBlocked = false;
    if (attempt.pongDue !== undefined) {
      const nonce = attempt.pongDue;
      attempt.pongDue = undefined;
      this.#pong(attempt, nonce);
    }
    this.#options.outbox.onWritable();
  }

  /** Answers at once, or, while the wire is full, the newest ping as soon as it is not. */
  #pong(attempt: Attempt, nonce: number): void {
    if (attempt.isBlocked) attempt.pongDue = nonce;
    else if (attempt.wire) this.#sendBody(attempt, attempt.wire, { $case: 'pong', value: { nonce } });
  }

  #sendBody(attempt: Attempt, wire: HubWire, body: UpBody): void {
    this.#send(attempt, wire, encodeUp({ seq: 0, ack: 0, body }));
  }

  #send(attempt: Attempt, wire: HubWire, bytes: Buffer): boolean {
    const takesMore = wire.send(bytes);
    attempt.isBlocked = !takesMore;
    return takesMore;
  }

  #setState(state: DeviceState): void {
    this.#state = state;
    this.#options.events.onState(state);
  }
}
