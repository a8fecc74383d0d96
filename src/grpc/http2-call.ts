import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { status } from '@grpc/grpc-js';
import { decodedMessage, grpcStatus, statusOfHttp } from '../device/wire/grpc-status.ts';
import { MessageSplitter } from '../protocol/message-splitter.ts';
import type { CallEnd, CallListener, OpenCall } from './caller-wire.ts';
import type { LeftCalls } from './left-calls.ts';

/** The hub limits payloads; this only bounds what a broken one can do. */
const maxMessageBytes = 64 * 1024 * 1024;

/** One call, on an HTTP/2 stream of its own once there is a connection. */
export class Http2Call implements OpenCall {
  readonly hub: number;
  readonly #headers: OutgoingHttpHeaders;
  readonly #message: Buffer;
  readonly #leftCalls: LeftCalls;
  /** Undefined once the end is told, or nobody wants to hear it. */
  #listener: CallListener | undefined;
  #stream: ClientHttp2Stream | undefined;
  #said: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
  #error: Error | undefined;

  constructor(
    hub: number,
    headers: OutgoingHttpHeaders,
    message: Buffer,
    listener: CallListener,
    leftCalls: LeftCalls,
  ) {
    this.hub = hub;
    this.#headers = headers;
    this.#message = message;
    this.#listener = listener;
    this.#leftCalls = leftCalls;
  }

  get mayHaveArrived(): boolean {
    return this.#stream !== undefined;
  }

  /** Somebody listens. */
  get isWanted(): boolean {
    return this.#listener !== undefined;
  }

  /** Goes over this connection; `onOver` is called when nothing of it is left there. */
  start(session: ClientHttp2Session, onOver: (isOutOfStreams: boolean) => void): void {
    const splitter = new MessageSplitter(maxMessageBytes, (message) => this.#listener?.onMessage(message));
    const stream = session.request(this.#headers);
    this.#stream = stream;
    stream.on('response', (headers) => {
      this.#said = headers;
    });
    stream.on('data', (chunk: Buffer) => {
      try {
        splitter.take(chunk);
      } catch (thrown) {
        this.#error ??= thrown as Error;
        stream.close(constants.NGHTTP2_CANCEL);
      }
    });
    stream.on('trailers', (trailers) => {
      if ('grpc-status' in trailers) this.#said = trailers;
    });
    stream.on('error', (error) => {
      this.#error ??= error;
    });
    stream.on('close', () => {
      // Two thousand million calls were made on this connection: the next one takes this call, too.
      const isOutOfStreams = (this.#error as NodeJS.ErrnoException)?.code === 'ERR_HTTP2_OUT_OF_STREAMS';
      onOver(isOutOfStreams);
      if (isOutOfStreams) this.#stream = undefined;
      else this.#closed(stream.rstCode);
    });
    stream.end(this.#message);
  }

  /** There is no connection for it: `why` in the end's details. */
  refuse(why: string): void {
    this.#tell({ code: status.UNAVAILABLE, details: why, mayHaveArrived: false });
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  leave(): void {
    if (this.#listener === undefined) return;
    this.#listener = undefined;
    if (this.#stream === undefined) return;
    // Read to its end, if it was paused: what is not read never ends.
    this.#stream.resume();
    this.#leftCalls.add(this);
  }

  cancel(): void {
    this.#listener = undefined;
    this.#stream?.close(constants.NGHTTP2_CANCEL);
  }

  #closed(rstCode: number): void {
    this.#leftCalls.delete(this);
    if (this.#listener !== undefined) this.#tell(this.#endOf(rstCode));
  }

  #endOf(rstCode: number): CallEnd {
    const said = this.#said;
    const code = grpcStatus(said);
    const http = said[':status'] ?? 200;
    // HTTP/2 says for certain that the server has not looked at the call: it came after the GOAWAY of a hub that closes.
    const mayHaveArrived = rstCode !== constants.NGHTTP2_REFUSED_STREAM;
    if (code !== undefined)
      return { code, details: decodedMessage(said['grpc-message']), metadata: metadataOf(said), mayHaveArrived };
    if (!mayHaveArrived) return { code: status.UNAVAILABLE, details: 'Stream refused by server', mayHaveArrived };
    if (http !== 200) return { code: statusOfHttp(http), details: `Received HTTP status code ${http}`, mayHaveArrived };
    if (rstCode === constants.NGHTTP2_ENHANCE_YOUR_CALM)
      return { code: status.RESOURCE_EXHAUSTED, details: 'the server wants fewer calls', mayHaveArrived };
    return {
      code: status.UNAVAILABLE,
      details: this.#error?.message || 'the connection was dropped',
      mayHaveArrived,
    };
  }

  #tell(end: CallEnd): void {
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.onEnd(end);
  }
}

function metadataOf(said: IncomingHttpHeaders): CallEnd['metadata'] {
  return {
    get: (key) => {
      const value = said[key];
      return value === undefined ? [] : [String(value)];
    },
  };
}
