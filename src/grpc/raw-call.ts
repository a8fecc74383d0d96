import type { ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { MessageSplitter, writeMessageHeader } from '../protocol/message-splitter.ts';
import { type CallStatus, statusOfError } from './status.ts';

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
 * One bidi call as messages of bytes, written and read past grpc-js straight on its http2 stream: that joins messages
 * that wait into one write, counts bytes where grpc-js counts 16 messages, spares a promise and a pause of the stream
 * for each message that comes, and can reset a peer that never reads, which grpc-js cannot. Headers, status, deadlines
 * and compressed messages stay with grpc-js.
 */
export class RawCall {
  readonly peer: string;
  readonly metadata: Metadata;
  readonly path: string;
  readonly #call: BufferCall;
  readonly #inner: InnerCall;
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
    this.#inner = innerCallOf(call);
    this.#stream = this.#inner.stream;
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
    const { incomingEncoding, maxReceiveMessageSize } = this.#inner;
    if (incomingEncoding === 'identity') this.#read(listener, maxReceiveMessageSize);
    else {
      this.#call.on('data', (bytes: Buffer) => listener.onMessage(bytes));
      // Who sends no more cannot acknowledge either: half closed is closed.
      this.#call.once('end', () => this.end());
    }
  }

  #read(listener: RawCallListener, maxBytes: number): void {
    const splitter = new MessageSplitter(maxBytes, (message) => {
      if (!this.#isEnding) listener.onMessage(message);
    });
    // Nobody has asked grpc-js to read, so all that came is still in the stream.
    this.#stream.removeAllListeners('data');
    this.#stream.on('data', (chunk: Buffer) => {
      if (this.#isEnding) return;
      try {
        splitter.take(chunk);
      } catch (thrown) {
        this.end(statusOfError(toHubError(thrown)));
      }
    });
    this.#stream.once('end', () => {
      if (!splitter.isInside) this.end();
      else this.end(statusOfError(new HubError('invalid-argument', 'the stream ended within a message')));
    });
    this.#stream.resume();
  }

  /**
   * Writes one message, in front of which `messageRoom` bytes are free. False: the stream is full, or ended;
   * `onWritable` comes only in the first case.
   */
  write(message: Buffer): boolean {
    if (this.#isClosed || this.#isEnding) return false;
    writeMessageHeader(message);
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

/** What grpc-js knows of a call and shows nobody. */
interface InnerCall {
  readonly stream: ServerHttp2Stream;
  readonly incomingEncoding: string;
  readonly maxReceiveMessageSize: number;
}

/**
 * The http2 stream under a grpc-js call, and what its headers agreed on. grpc-js has no public way to it; a version that
 * keeps it elsewhere fails here, at the first call, and in the tests.
 */
function innerCallOf(call: object): InnerCall {
  const inner: unknown = Reflect.get(call, 'call');
  if (isInnerCall(inner)) return inner;
  throw new Error('this version of @grpc/grpc-js keeps its http2 stream in another place (expected call.call.stream)');
}

/** The http2 stream under a grpc-js call. */
export const http2StreamOf = (call: object): ServerHttp2Stream => innerCallOf(call).stream;

/**
 * Lets go of the bytes of a call's only request. grpc-js keeps what it decoded last as long as the call lives: a large
 * command that waits for its device would weigh twice. A version that keeps them elsewhere costs memory and no more.
 */
export function forgetRequestBytes(call: object): void {
  const decoder: unknown = Reflect.get(Reflect.get(call, 'call') as object, 'decoder');
  if (typeof decoder !== 'object' || decoder === null) return;
  // The flag is a view of all that came with it.
  for (const [name, empty] of [
    ['readPartialMessage', []],
    ['readCompressFlag', Buffer.alloc(1)],
  ] as const)
    if (Reflect.has(decoder, name)) Reflect.set(decoder, name, empty);
}

function isInnerCall(value: unknown): value is InnerCall {
  if (typeof value !== 'object' || value === null) return false;
  const stream: unknown = Reflect.get(value, 'stream');
  return (
    typeof stream === 'object' &&
    stream !== null &&
    ['close', 'write', 'destroy', 'pause'].every((name) => typeof Reflect.get(stream, name) === 'function') &&
    typeof Reflect.get(value, 'incomingEncoding') === 'string' &&
    typeof Reflect.get(value, 'maxReceiveMessageSize') === 'number'
  );
}
