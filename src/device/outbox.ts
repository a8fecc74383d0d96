import { HubError } from '../errors.ts';
import { Deque } from '../flow/deque.ts';
import { TransitMap } from '../flow/transit-map.ts';
import { encodeEnvelope, upTag } from '../protocol/hot-frames.ts';

/** What a numbered frame carries. */
export type ParcelKind = 'started' | 'progress' | 'item' | 'result' | 'event';

/** A body that must reach the hub. It is encoded once; number and acknowledgement are put before it when it is sent. */
export interface Parcel {
  readonly kind: ParcelKind;
  /** The command that it is about; for events their name. */
  readonly subject: string;
  readonly body: Uint8Array;
  /** Called once the hub has taken it over. */
  readonly onAcknowledged?: (() => void) | undefined;
}

export interface OutboxOptions {
  readonly maxFrames: number;
  readonly maxBytes: number;
  /** Hears of the ids of commands whose results the hub has taken over. */
  readonly onResults: (commandIds: string[]) => void;
  /** Called when there is room again after the outbox was full. */
  readonly onRoom: () => void;
  /** Called when the hub has acknowledged everything. */
  readonly onEmpty: () => void;
}

/** Field numbers of `ConnectRequest`, as tags of length-delimited fields. */
const tags: Readonly<Record<ParcelKind, number>> = {
  started: upTag(4),
  progress: upTag(5),
  item: upTag(5),
  result: upTag(6),
  event: upTag(7),
};
/** Number, acknowledgement, tags and length: more than they ever take. */
const envelopeBytes = 24;
const lastSeq = 0xffff_ffff;

/**
 * Everything that the hub has not acknowledged yet, in order, and the acknowledgements that we owe it. Frames are
 * written only while the wire takes them. What was sent stays until it is acknowledged, so that it can be sent again.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #unsent = new Deque<Parcel>();
  readonly #sent = new Deque<Parcel>();
  /** Number of the first parcel in `#sent`, or of the next one to be sent. */
  #firstSent = 1;
  #bytes = 0;
  #wasFull = false;
  /** Of the commands whose results are here. */
  readonly #unackedResults = new TransitMap<true>();
  #send: ((bytes: Buffer) => boolean) | undefined;
  #isWritable = false;
  #received = 0;
  #owesAck = false;
  /** Largest frame that the hub takes, in bytes; its welcome says. */
  maxFrameBytes = 1024 * 1024;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Highest number received from the hub without a hole. */
  get received(): number {
    return this.#received;
  }

  /** Frames that the hub has not acknowledged. */
  get size(): number {
    return this.#unsent.size + this.#sent.size;
  }

  /** True when no further events, items and commands are taken. */
  get isFull(): boolean {
    return this.size >= this.#options.maxFrames || this.#bytes >= this.#options.maxBytes;
  }

  /** What it takes before it is full, for people. */
  get limits(): string {
    const { maxFrames, maxBytes } = this.#options;
    return `${maxFrames} frames or ${maxBytes} bytes`;
  }

  /** True while the wire takes less than there is. */
  get isBusy(): boolean {
    return this.#unsent.size > 0;
  }

  /** True when the numbers of this session are used up and a new one is needed. */
  get isExhausted(): boolean {
    return this.#firstSent + this.#sent.size >= lastSeq;
  }

  /** Ids of the commands whose results are here. */
  get results(): Pick<TransitMap<true>, 'has' | 'size' | 'keys'> {
    return this.#unackedResults;
  }

  /** Whether the hub takes a frame with this body. */
  fits(body: Uint8Array): boolean {
    return body.length + envelopeBytes <= this.maxFrameBytes;
  }

  /** Takes a parcel, whatever is here already: who may be refused asks `isFull` first. */
  offer(parcel: Parcel): void {
    this.#unsent.push(parcel);
    this.#bytes += parcel.body.length + envelopeBytes;
    if (parcel.kind === 'result') this.#unackedResults.set(parcel.subject, true);
    if (this.isFull) this.#wasFull = true;
    this.#flush();
  }

  /** Notes that a frame with this number has come; the acknowledgement goes with the next frame or `flushAck`. */
  receive(seq: number): void {
    this.#received = seq;
    this.#owesAck = true;
  }

  /** Asks that a number that came before is acknowledged again. */
  receiveAgain(): void {
    this.#owesAck = true;
  }

  /** Whether an acknowledgement is owed that no frame has carried. */
  get owesAck(): boolean {
    return this.#owesAck;
  }

  /** Sends a bare acknowledgement if one is owed that no other frame has carried. */
  flushAck(): void {
    if (!this.#owesAck || !this.#isWritable || !this.#send) return;
    this.#owesAck = false;
    this.#isWritable = this.#send(encodeEnvelope(0, this.#received, 0, undefined));
  }

  /** A session begins or goes on. Throws when the hub claims to have received what was never sent or is gone here. */
  attach(send: (bytes: Buffer) => boolean, resumedAt: number | undefined): void {
    if (resumedAt === undefined) {
      // How far a command is matters no more than its result; everything else must not be lost.
      const again = [...this.#sent].filter(({ kind }) => kind !== 'started' && kind !== 'progress');
      const old = this.#sent.size;
      this.#bytes = 0;
      this.#sent.clear();
      this.#unsent.unshift(again);
      for (const { body } of this.#unsent) this.#bytes += body.length + envelopeBytes;
      this.#firstSent = 1;
      this.#received = 0;
      this.#owesAck = false;
      if (again.length < old) this.#noteRoom();
    } else {
      const next = this.#firstSent + this.#sent.size;
      if (resumedAt < this.#firstSent - 1 || resumedAt >= next)
        throw new HubError(
          'internal',
          `the hub resumes after frame ${resumedAt}, here are ${this.#firstSent} to ${next - 1}`,
        );
      const sent = [...this.#sent];
      const kept = resumedAt - this.#firstSent + 1;
      this.#sent.clear();
      for (const parcel of sent.slice(0, kept)) this.#sent.push(parcel);
      this.#unsent.unshift(sent.slice(kept));
    }
    this.#send = send;
    this.#isWritable = true;
    this.#flush();
    this.flushAck();
  }

  /** The stream is gone. */
  detach(): void {
    this.#send = undefined;
    this.#isWritable = false;
  }

  /** The wire takes frames again. */
  onWritable(): void {
    if (!this.#send) return;
    this.#isWritable = true;
    this.#flush();
    this.flushAck();
  }

  /** Forgets everything up to `seq`. Throws on a number that was never sent. */
  acknowledge(seq: number): void {
    if (seq < this.#firstSent) return;
    if (seq >= this.#firstSent + this.#sent.size)
      throw new HubError(
        'internal',
        `the hub acknowledges frame ${seq}, sent are 1 to ${this.#firstSent + this.#sent.size - 1}`,
      );
    let results: string[] | undefined;
    while (this.#firstSent <= seq) {
      const parcel = this.#sent.shift() as Parcel;
      this.#firstSent++;
      this.#bytes -= parcel.body.length + envelopeBytes;
      if (parcel.kind === 'result') {
        this.#unackedResults.delete(parcel.subject);
        results ??= [];
        results.push(parcel.subject);
      }
      parcel.onAcknowledged?.();
    }
    if (results) this.#options.onResults(results);
    this.#noteRoom();
    if (this.size === 0) this.#options.onEmpty();
  }

  #noteRoom(): void {
    if (!this.#wasFull || this.isFull) return;
    this.#wasFull = false;
    this.#options.onRoom();
  }

  #flush(): void {
    while (this.#isWritable && this.#send) {
      const parcel = this.#unsent.shift();
      if (!parcel) return;
      const seq = this.#firstSent + this.#sent.size;
      this.#sent.push(parcel);
      this.#owesAck = false;
      this.#isWritable = this.#send(encodeEnvelope(seq, this.#received, tags[parcel.kind], parcel.body));
    }
  }
}
