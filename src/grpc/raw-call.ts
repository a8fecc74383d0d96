import type { ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../flow/clock.ts';
import type { CallStatus } from './status.ts';

/** A bidi call of grpc-js, registered with Buffer codecs. */
export type BufferCall = ServerDuplexStream<Buffer, Buffer>;

/** What a raw call tells. Each is called from the event loop, never from within a call of ours. */
export interface RawCallListener {
  onMessage(bytes: Buffer): void;
  onWritable(): void;
  /** Called once, however the call ended. */
  onClosed(): void;
}

/**
 * One bidi call as messages of bytes, written past grpc-js straight onto its http2 stream: that joins messages that
 * wait into one write, counts bytes where grpc-js counts 16 messages, and can reset a peer that never reads,
 * which grpc-js cannot. Reading, headers, status and deadlines stay with grpc-js.
 */
export class RawCall {
  readonly peer: string;
  readonly metadata: Metadata;
  readonly path: string;
  readonly #call: BufferCall;
  readonly #stream: ServerHttp2Stream;
  readonly #clock: Clock;
  readonly #open: Set<RawCall>;
  #listener: RawCallListener | undefined;
  #isEnding = false;
  #isClosed = false;
  #letGoOfDeadline: (() => void) | undefined;

  /** Sends the headers at once: until then a grpc-js client holds back all that it writes. Is in `open` until it ends. */
  constructor(call: BufferCall, clock: Clock, open: Set<RawCall>) {
    this.#call = call;
    this.#clock = clock;
    this.#stream = http2StreamOf(call);
    this.peer = call.getPeer();
    this.metadata = call.metadata;
    this.path = call.getPath();
    this.#open = open;
    open.add(this);
    call.sendMetadata(new Metadata());
    this.#stream.once('close', () => this.#closed());
    // The stream is gone already in the turn in which the call was opened.
    if (this.#stream.destroyed) process.nextTick(() => this.#closed());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Begins to read. What came before waits in bounded buffers: grpc-js's 16 messages and the stream's window. */
  listen(listener: RawCallListener): void {
    if (this.#isClosed) {
      process.nextTick(() => listener.onClosed());
      return;
    }
    this.#listener = listener;
    this.#stream.on('drain', () => listener.onWritable());
    this.#call.on('data', (bytes: Buffer) => listener.onMessage(bytes));
    // Who sends no more cannot acknowledge either: half closed is closed.
    this.#call.once('end', () => this.end());
  }

  /** Writes one message. False: the stream is full, or ended; `onWritable` comes only in the first case. */
  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isEnding) return false;
    const message = Buffer.allocUnsafe(5 + bytes.length);
    message[0] = 0;
    message.writeUInt32BE(bytes.length, 1);
    message.set(bytes, 5);
    // While one write is under way, the next ones wait in the stream and leave together.
    return this.#stream.write(message);
  }

  /** Ends the call after what was written; resets it where the peer has not taken that within `withinMs`. */
  end(status?: CallStatus, withinMs = 5_000): void {
    if (this.#isClosed || this.#isEnding) return;
    this.#isEnding = true;
    this.#letGoOfDeadline = this.#clock.after(withinMs, () => this.reset());
    if (status === undefined) this.#call.end();
    else this.#call.emit('error', status);
  }

  /** Ends the call now, whatever the peer does. */
  reset(): void {
    if (this.#isClosed) return;
    this.#isEnding = true;
    this.#stream.close(constants.NGHTTP2_CANCEL);
    // A stalled stream would wait for its queued writes before it closes.
    this.#stream.destroy();
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#open.delete(this);
    this.#letGoOfDeadline?.();
    this.#listener?.onClosed();
  }
}

/**
 * The http2 stream under a grpc-js call. grpc-js has no public way to it; a version that keeps it elsewhere fails
 * here, at the first call, and in the tests.
 */
export function http2StreamOf(call: object): ServerHttp2Stream {
  const inner: unknown = Reflect.get(call, 'call');
  const stream: unknown = typeof inner === 'object' && inner !== null ? Reflect.get(inner, 'stream') : undefined;
  if (isHttp2Stream(stream)) return stream;
  throw new Error('this version of @grpc/grpc-js keeps its http2 stream in another place (expected call.call.stream)');
}

function isHttp2Stream(value: unknown): value is ServerHttp2Stream {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['close', 'cork', 'uncork', 'write', 'destroy'].every((name) => typeof Reflect.get(value, name) === 'function')
  );
}
