import { RareSet } from '../flow/rare-set.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import type { DownBody, UpBody, UpFrame } from '../protocol/frames.ts';
import type { Hello } from '../protocol/gen/signalbox/v1/device.ts';
import { GoodbyeReason } from '../protocol/gen/signalbox/v1/device.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from './device-stream.ts';
import type { CloseReason } from './facts.ts';
import { Intake } from './intake.ts';
import type { Settings } from './options.ts';
import { Outbox } from './outbox.ts';
import type { PendingCommand } from './pending-command.ts';

/** Whose stream it is. */
export interface SessionOwner {
  readonly tenant: string;
  readonly id: string;
  /** The newest session. */
  readonly session: Session | undefined;
  /** Commands that were written to it and have not ended, oldest first. */
  readonly inFlight: { readonly first: PendingCommand | undefined };
  /** Writes what can be written. */
  pump(): void;
}

/** Frames from a device that carry a number. */
export type NumberedBody = Extract<UpBody, { $case: 'started' | 'progress' | 'result' | 'event' }>;

/** What a session needs of the hub. */
export interface SessionHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  /** Decides about a hello: opens the session, or ends it. */
  open(session: Session, hello: Hello): void;
  /** Called once, however the session ended. */
  closed(session: Session, wasOpen: boolean, reason: CloseReason, message: string): void;
  /** The device has acknowledged a command. */
  readonly delivered: (pending: PendingCommand) => void;
  /** Takes over what a device tells; a promise when that takes a store. False: not taken over, to be told again. */
  take(session: Session, body: NumberedBody): Promise<boolean> | undefined;
  measured(session: Session, roundTripMs: number): void;
  /** An acknowledgement is due soon, unless another frame carries it. */
  owesAcknowledgement(session: Session, isUrgent: boolean): void;
}

/** What outlives a lost stream: the numbers and the unacknowledged frames of both directions. */
export class Lineage {
  readonly id: string;
  readonly bootId: string;
  readonly outbox = new Outbox();
  readonly intake = new Intake();
  /** Something that was received is not taken over, and never will be: this cannot be resumed. */
  isLossy = false;

  constructor(id: string, bootId: string) {
    this.id = id;
    this.bootId = bootId;
  }
}

/** How a stream is told to end. */
export interface Ending {
  readonly reason: CloseReason;
  readonly message: string;
  readonly mayReconnect: boolean;
  readonly retryAfterMs?: number;
}

/** A stream with traffic is pinged once in this many heartbeats. */
const heartbeatsPerPing = 4;
/** A device that does not wait for its welcome may be this many frames ahead. */
const maxEarlyFrames = 256;

/** One live stream of a client, from its hello to its end. As an alarm it watches over the stream's liveness. */
export class Session extends Alarm implements DeviceStreamListener {
  readonly stream: DeviceStream;
  readonly identity: DeviceIdentity;
  readonly #host: SessionHost;
  #phase: 'greeting' | 'claiming' | 'open' | 'closed' = 'greeting';
  /** Came while the hub was asking whether it may have the client. */
  #early: UpFrame[] | undefined;
  #isWritable = true;
  #lastHeardAt: number;
  #pingSentAt: number | undefined;
  #pingedAt = Number.NEGATIVE_INFINITY;
  #pingNonce = 0;
  #owedPong: number | undefined;
  #acknowledged = 0;
  /** Rings when the stream takes nothing, when the credential ends, and when a closed stream does not go. */
  #second: Alarm | undefined;
  readonly openedAt: number;
  // Set by `open`.
  client!: SessionOwner;
  lineage!: Lineage;
  epoch = 0;
  journalId = '';
  window = 0;
  /** In which batches of acknowledgements it is. */
  owes = 0;
  /** Ids from the hello: the device has begun these and will tell their result. Without those that it has told. */
  begun = new RareSet<string>();

  constructor(stream: DeviceStream, identity: DeviceIdentity, host: SessionHost) {
    super();
    this.stream = stream;
    this.identity = identity;
    this.#host = host;
    this.#lastHeardAt = this.openedAt = host.settings.clock.monotonic();
    host.wheel.set(this, host.settings.helloTimeoutMs);
  }

  get isOpen(): boolean {
    return this.#phase === 'open';
  }

  /** Unix ms. */
  get lastHeardAtMs(): number {
    const { clock } = this.#host.settings;
    return Math.round(clock.now() - (clock.monotonic() - this.#lastHeardAt));
  }

  get isClosed(): boolean {
    return this.#phase === 'closed';
  }

  /** The hello is good, and the hub asks whether it may have the client. `open` or `end` follows. */
  hold(): void {
    this.#phase = 'claiming';
  }

  /** Takes what came while the hub was asking; to be called once the session is open and its device welcome. */
  catchUp(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) this.onFrame(frame);
  }

  /** Whether a command can be written now without growing anybody's memory. */
  get canSend(): boolean {
    return this.#phase === 'open' && this.#isWritable;
  }

  open(client: SessionOwner, lineage: Lineage, epoch: number, hello: Hello, window: number): void {
    this.#phase = 'open';
    this.client = client;
    this.lineage = lineage;
    this.epoch = epoch;
    this.journalId = hello.journalId;
    this.window = window;
    this.begun = new RareSet(hello.inFlight);
    const { heartbeatMs, ping } = this.#host.settings;
    if (ping === 'off') this.#host.wheel.clear(this);
    else this.#host.wheel.set(this, heartbeatMs);
    const { expiresAtMs } = this.identity;
    if (expiresAtMs !== undefined) {
      const expiry = new Alarm(() => {
        if (this.isOpen)
          this.end({ reason: 'unauthenticated', message: 'the credential has expired', mayReconnect: true });
      });
      this.#host.wheel.set(expiry, expiresAtMs - this.#host.settings.clock.now());
      this.#onClosed = () => this.#host.wheel.clear(expiry);
    }
  }

  #onClosed: (() => void) | undefined;

  /** Writes one frame with the newest acknowledgement. `seq` 0 for frames that may be lost. */
  send(seq: number, body: DownBody | undefined): void {
    if (this.#phase === 'closed') return;
    const ack = this.#phase === 'open' ? this.lineage.intake.taken : 0;
    this.#acknowledged = ack;
    this.#noteWritable(this.stream.send({ seq, ack, body }));
  }

  /** Tells the device what was taken over, unless another frame has done so. */
  acknowledge(): void {
    if (this.canSend && this.lineage.intake.taken !== this.#acknowledged) this.send(0, undefined);
  }

  /** Ends the stream: says why, closes it, and resets it when it does not go. */
  end(ending: Ending): void {
    if (this.#phase === 'closed') return;
    this.stream.send({
      seq: 0,
      ack: this.#phase === 'open' ? this.lineage.intake.taken : 0,
      body: {
        $case: 'goodbye',
        value: {
          reason: goodbyeReason[ending.reason],
          message: ending.message,
          mayReconnect: ending.mayReconnect,
          retryAfterMs: ending.retryAfterMs ?? 0,
        },
      },
    });
    this.#finish(ending.reason, ending.message);
    // A peer that does not read never sees the end of the stream: it gets a second, then the stream is gone.
    this.#host.wheel.set(this.#secondAlarm(), 1000);
    this.stream.close();
  }

  /** The device is dead or hostile: no goodbye, no waiting. */
  reset(reason: CloseReason, message: string): void {
    if (this.#phase === 'closed') return;
    this.#finish(reason, message);
    this.stream.reset();
  }

  onFrame(frame: UpFrame): void {
    if (this.#phase === 'closed') return;
    this.#lastHeardAt = this.#host.settings.clock.monotonic();
    if (this.#phase === 'greeting') {
      if (frame.body?.$case === 'hello') this.#host.open(this, frame.body.value);
      else this.#breach(`the first frame has to be a hello, it was ${frame.body?.$case ?? 'empty'}`);
      return;
    }
    if (this.#phase === 'claiming') {
      this.#early ??= [];
      if (this.#early.length < maxEarlyFrames) this.#early.push(frame);
      else this.#breach(`${maxEarlyFrames} frames came before the welcome`);
      return;
    }
    const { outbox } = this.lineage;
    if (frame.ack > outbox.lastSeq) {
      this.#breach(`ack ${frame.ack} is of a frame that was never sent, the last one was ${outbox.lastSeq}`);
      return;
    }
    outbox.acknowledge(frame.ack, this.#host.delivered);
    if (frame.body) this.#take(frame.seq, frame.body);
    if (this.isOpen) this.client.pump();
  }

  onMalformed(error: Error): void {
    if (this.#phase !== 'closed') this.#breach(`a frame could not be read: ${error.message}`);
  }

  onWritable(): void {
    if (this.#phase !== 'open') return;
    this.#noteWritable(true);
    if (this.#owedPong !== undefined) {
      const nonce = this.#owedPong;
      this.#owedPong = undefined;
      this.send(0, { $case: 'pong', value: { nonce } });
    }
    this.acknowledge();
    this.client.pump();
  }

  onClosed(): void {
    if (this.#second) this.#host.wheel.clear(this.#second);
    if (this.#phase !== 'closed') this.#finish('lost', 'the stream broke');
  }

  /** Liveness, and before the hello its time limit. */
  override onAlarm(): void {
    const { settings, wheel } = this.#host;
    if (this.#phase === 'greeting') {
      this.#breach(`no hello within ${settings.helloTimeoutMs} ms`);
      return;
    }
    if (this.#phase === 'claiming') {
      const message = `the client could not be claimed within ${settings.helloTimeoutMs} ms`;
      this.end({ reason: 'overloaded', message, mayReconnect: true, retryAfterMs: 1000 });
      return;
    }
    if (this.#phase === 'closed') return;
    const silentMs = settings.clock.monotonic() - this.#lastHeardAt;
    if (silentMs >= settings.heartbeatMs + settings.livenessMs) {
      this.reset('liveness', `nothing was heard for ${Math.round(silentMs)} ms`);
      return;
    }
    // A stream that is never silent is asked now and then all the same: its round trip is worth knowing.
    const isLongAgo = settings.clock.monotonic() - this.#pingedAt >= settings.heartbeatMs * heartbeatsPerPing;
    if (silentMs >= settings.heartbeatMs || settings.ping === 'interval' || isLongAgo) this.#ping();
    const untilDead = settings.heartbeatMs + settings.livenessMs - silentMs;
    const untilPing = settings.ping === 'interval' ? settings.heartbeatMs : settings.heartbeatMs - silentMs;
    wheel.set(this, untilPing > 0 ? Math.min(untilPing, untilDead) : untilDead);
  }

  #take(seq: number, body: NonNullable<UpFrame['body']>): void {
    switch (body.$case) {
      case 'hello':
        this.#breach('a second hello came');
        break;
      case 'ping':
        // A peer that asks and never reads costs one remembered nonce.
        if (this.#isWritable) this.send(0, { $case: 'pong', value: { nonce: body.value.nonce } });
        else this.#owedPong = body.value.nonce;
        break;
      case 'pong':
        this.#pong(body.value.nonce);
        break;
      case 'goodbye':
        this.#finish('disconnected', body.value.message || 'the device left');
        this.#host.wheel.set(this.#secondAlarm(), 1000);
        this.stream.close();
        break;
      case 'started':
      case 'progress':
      case 'result':
      case 'event':
        this.#takeNumbered(seq, body);
        break;
      default:
        body satisfies never;
    }
  }

  #takeNumbered(seq: number, body: NumberedBody): void {
    const { lineage, client } = this;
    const { intake } = lineage;
    if (seq === 0) {
      this.#breach(`a ${body.$case} came without a number`);
      return;
    }
    const place = intake.receive(seq);
    if (place === 'hole') {
      this.#breach(`frame ${seq} came after ${intake.received}`);
      return;
    }
    if (place === 'repeated') {
      this.#host.owesAcknowledgement(this, true);
      return;
    }
    const kept = this.#host.take(this, body);
    if (!kept) {
      intake.take(seq);
      this.#host.owesAcknowledgement(this, false);
      return;
    }
    void kept.then((isKept) => {
      if (!isKept) {
        // A device tells again what was received and not taken over in a new session only.
        lineage.isLossy = true;
        const message = 'what the device told could not be taken over; it is to tell it again';
        if (client.session?.lineage === lineage)
          client.session.end({ reason: 'overloaded', message, mayReconnect: true, retryAfterMs: 100 });
        return;
      }
      intake.take(seq);
      // The stream may have changed meanwhile; a new session begins new numbers.
      if (client.session?.lineage === lineage) this.#host.owesAcknowledgement(client.session, body.$case === 'event');
    });
  }

  #ping(): void {
    if (this.#pingSentAt !== undefined || !this.#isWritable) return;
    this.#pingSentAt = this.#pingedAt = this.#host.settings.clock.monotonic();
    this.send(0, { $case: 'ping', value: { nonce: ++this.#pingNonce } });
  }

  #pong(nonce: number): void {
    if (this.#pingSentAt === undefined || nonce !== this.#pingNonce) return;
    const roundTripMs = this.#host.settings.clock.monotonic() - this.#pingSentAt;
    this.#pingSentAt = undefined;
    this.#host.measured(this, roundTripMs);
  }

  #noteWritable(isWritable: boolean): void {
    if (isWritable === this.#isWritable) return;
    this.#isWritable = isWritable;
    if (isWritable) this.#host.wheel.clear(this.#secondAlarm());
    else this.#host.wheel.set(this.#secondAlarm(), this.#host.settings.stallMs);
  }

  #secondAlarm(): Alarm {
    this.#second ??= new Alarm(() => {
      if (this.#phase === 'closed') this.stream.reset();
      else {
        this.end({
          reason: 'slow-consumer',
          message: `the stream took nothing for ${this.#host.settings.stallMs} ms`,
          mayReconnect: true,
        });
        // It did not read before; it will not read the goodbye.
        this.stream.reset();
      }
    });
    return this.#second;
  }

  #breach(message: string): void {
    this.end({ reason: 'protocol-error', message, mayReconnect: false });
  }

  #finish(reason: CloseReason, message: string): void {
    const wasOpen = this.#phase === 'open';
    this.#phase = 'closed';
    this.#host.wheel.clear(this);
    if (this.#second) this.#host.wheel.clear(this.#second);
    this.#onClosed?.();
    this.#host.closed(this, wasOpen, reason, message);
  }
}

const goodbyeReason: Record<CloseReason, GoodbyeReason> = {
  disconnected: GoodbyeReason.GOODBYE_REASON_DISCONNECTED,
  lost: GoodbyeReason.GOODBYE_REASON_UNSPECIFIED,
  'taken-over': GoodbyeReason.GOODBYE_REASON_TAKEN_OVER,
  draining: GoodbyeReason.GOODBYE_REASON_DRAINING,
  'protocol-error': GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR,
  unauthenticated: GoodbyeReason.GOODBYE_REASON_UNAUTHENTICATED,
  'permission-denied': GoodbyeReason.GOODBYE_REASON_PERMISSION_DENIED,
  'slow-consumer': GoodbyeReason.GOODBYE_REASON_SLOW_CONSUMER,
  liveness: GoodbyeReason.GOODBYE_REASON_LIVENESS,
  overloaded: GoodbyeReason.GOODBYE_REASON_OVERLOADED,
};
