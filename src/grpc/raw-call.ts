import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Metadata } from '@grpc/grpc-js';
import type { Credentials } from '../auth/principal.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { MessageSplitter, writeMessageHeader } from '../protocol/message-splitter.ts';
import { type CallStatus, statusOfError } from './status.ts';

/** What a raw call tells. Each is called from the event loop, never from within a call of ours. */
export interface RawCallListener {
  onMessage(bytes: Buffer): void;
  onWritable(): void;
  /** Called once, however the call ended. */
  onClosed(): void;
}

/** What a call brings in its headers. For its handler: not kept with the call. */
export interface Opening {
  readonly metadata: Metadata;
  /** Bytes of the metadata's names and values. */
  readonly headerBytes: number;
  /** Throws `unauthenticated` for a header that cannot be read. */
  credentials(): Credentials;
}

/** Serves one bidi method. The answer's headers are sent already: until then grpc-js clients hold back what they write. */
export type BidiHandler = (call: RawCall, opening: Opening) => void;

export interface RawCallEnvironment {
  readonly clock: Clock;
  /** Where the calls that are open now are kept. */
  readonly openCalls: Set<RawCall>;
  /** Bytes of one message that is taken. */
  readonly maxMessageBytes: number;
}

/**
 * One bidi call as messages of bytes, written and read past grpc-js straight on its http2 stream: that joins messages
 * that wait into one write, counts bytes where grpc-js counts 16 messages, spares a promise and a pause of the stream
 * for each message that comes, and can reset a peer that never reads, which grpc-js cannot.
 */
export abstract class RawCall {
  readonly peer: string;
  readonly path: string;
  protected readonly stream: ServerHttp2Stream;
  readonly #environment: RawCallEnvironment;
  #listener: RawCallListener | undefined;
  #isEnding = false;
  #isClosed = false;
  #letGoOfDeadline: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, path: string, peer: string, environment: RawCallEnvironment) {
    this.stream = stream;
    this.path = path;
    this.peer = peer;
    this.#environment = environment;
    environment.openCalls.add(this);
    stream.on('close', () => this.#closed());
    // The stream is gone already in the turn in which the call was opened.
    if (stream.destroyed) process.nextTick(() => this.#closed());
  }

  /** Sends the status after what was written. Default: all went well. */
  protected abstract finish(status?: CallStatus): void;

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Begins to read. What came before waits in bounded buffers. */
  listen(listener: RawCallListener): void {
    if (this.#isClosed) {
      process.nextTick(() => listener.onClosed());
      return;
    }
    this.#listener = listener;
    this.stream.on('drain', () => listener.onWritable());
    this.read(listener);
  }

  protected read(listener: RawCallListener): void {
    const splitter = new MessageSplitter(this.#environment.maxMessageBytes, (message) => {
      if (!this.#isEnding) listener.onMessage(message);
    });
    this.stream.on('data', (chunk: Buffer) => {
      if (this.#isEnding) return;
      try {
        splitter.take(chunk);
      } catch (thrown) {
        this.end(statusOfError(toHubError(thrown)));
      }
    });
    // Who sends no more cannot acknowledge either: half closed is closed.
    this.stream.on('end', () => {
      if (!splitter.isInside) this.end();
      else this.end(statusOfError(new HubError('invalid-argument', 'the stream ended within a message')));
    });
    this.stream.resume();
  }

  /**
   * Writes one message, in front of which `messageRoom` bytes are free. False: the stream is full, or ended;
   * `onWritable` comes only in the first case.
   */
  write(message: Buffer): boolean {
    if (this.#isClosed || this.#isEnding) return false;
    writeMessageHeader(message);
    // While one write is under way, the next ones wait in the stream and leave together.
    return this.stream.write(message);
  }

  /** Ends the call after what was written; resets it where the peer has not taken that within `withinMs`. */
  end(status?: CallStatus, withinMs = 5_000): void {
    if (this.#isClosed || this.#isEnding) return;
    this.#isEnding = true;
    this.#letGoOfDeadline = this.#environment.clock.after(withinMs, () => this.reset());
    this.finish(status);
  }

  /** Ends the call now, whatever the peer does. */
  reset(): void {
    if (this.#isClosed) return;
    this.#isEnding = true;
    this.stream.close(constants.NGHTTP2_CANCEL);
    // A stalled stream would wait for its queued writes before it closes.
    this.stream.destroy();
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#environment.openCalls.delete(this);
    this.#letGoOfDeadline?.();
    this.#listener?.onClosed();
  }
}
