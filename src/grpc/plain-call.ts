import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Authenticator, Principal } from '../auth/principal.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { Alarm, TimingWheel } from '../flow/timing-wheel.ts';
import { MessageSplitter, writeMessageHeader } from '../protocol/message-splitter.ts';
import type { GrpcFact } from './facts.ts';
import { checkHeaderBytes, headerBytes } from './header-limit.ts';
import { answerHeaders, answerOptions, isPlain, peerOf, plainCredentials, trailersOf } from './plain-headers.ts';
import { statusOfError } from './status.ts';

/** A method with one request and any number of answers, that is called so often that grpc-js's layers cost more than it does. */
export interface PlainMethod {
  readonly path: string;
  /** Called once for each call with its request; what it throws ends the call. */
  serve(call: PlainCall, request: Buffer): void;
}

export interface PlainEnvironment {
  readonly authenticator: Authenticator;
  readonly clock: Clock;
  readonly observe: (fact: GrpcFact) => void;
  /** A caller that takes nothing of its call for this long loses it, in ms. */
  readonly stallMs: number;
  /** Bytes of metadata that a call may bring. */
  readonly maxHeaderBytes: number;
  /** Bytes of its request. */
  readonly maxMessageBytes: number;
}

/** Takes calls of one method past grpc-js. */
export interface PlainCalls {
  /** Whether the call was taken. One that wants more than a plain call (a deadline, compression) is left to grpc-js. */
  take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean;
  /** Forgets its timers; the streams end with their connections. */
  close(): void;
}

export function plainCalls(method: PlainMethod, environment: PlainEnvironment): PlainCalls {
  const wheel = new TimingWheel({ clock: environment.clock, tickMs: 100 });
  return {
    take(stream, headers) {
      if (headers[':path'] !== method.path || !isPlain(headers)) return false;
      new PlainCall(stream, headers, method, environment, wheel).read();
      return true;
    },
    close: () => wheel.close(),
  };
}

const good: OutgoingHttpHeaders = { 'grpc-status': '0' };
const endOptions = { endStream: true, sendDate: false };

/** One call, straight on its http2 stream. Its alarm rings when its caller takes nothing, for too long. */
export class PlainCall extends Alarm {
  /** Who is calling. Set before the method gets the call. */
  principal!: Principal;
  /** Called once when nobody hears any more what is told: the caller has left, or its credential has expired. */
  onLeft: (() => void) | undefined;
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #method: PlainMethod;
  readonly #environment: PlainEnvironment;
  readonly #wheel: TimingWheel;
  #request: Buffer | undefined;
  #trailers = good;
  #isOver = false;
  #onDrain: (() => void) | undefined;
  #expiry: Alarm | undefined;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    method: PlainMethod,
    environment: PlainEnvironment,
    wheel: TimingWheel,
  ) {
    super();
    this.#stream = stream;
    this.#headers = headers;
    this.#method = method;
    this.#environment = environment;
    this.#wheel = wheel;
  }

  /** All is told, or nobody listens. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Reads the request, and begins. */
  read(): void {
    const stream = this.#stream;
    const splitter = new MessageSplitter(this.#environment.maxMessageBytes, (message) => {
      if (this.#request !== undefined) throw new HubError('unimplemented', 'a second request came in one call');
      this.#request = message;
    });
    stream.on('data', (chunk: Buffer) => {
      if (this.#isOver) return;
      try {
        splitter.take(chunk);
      } catch (thrown) {
        this.fail(thrown);
      }
    });
    stream.on('end', () => this.#begin());
    // What it means is told by 'close', which comes after it.
    stream.on('error', () => undefined);
    stream.on('close', () => this.#left());
  }

  /** Tells the caller now that it has reached us; else the first answer does. */
  respond(): void {
    if (!this.#canWrite() || this.#stream.headersSent) return;
    this.#stream.respond(answerHeaders, answerOptions);
    this.#stream.on('wantTrailers', () => {
      if (!this.#stream.closed) this.#stream.sendTrailers(this.#trailers);
    });
  }

  /** Sends one answer, in front of which `messageRoom` bytes are free. False: wait for `drained`. */
  write(message: Buffer): boolean {
    if (!this.#canWrite()) return true;
    this.respond();
    writeMessageHeader(message);
    return this.#stream.write(message);
  }

  /** Resolves when the call can take more, or is over; a caller that takes nothing for too long loses it. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#canWrite()) {
        resolve();
        return;
      }
      this.#onDrain = () => {
        this.#onDrain = undefined;
        this.#wheel.clear(this);
        resolve();
      };
      this.#stream.once('drain', () => this.#onDrain?.());
      this.#wheel.set(this, this.#environment.stallMs);
    });
  }

  /** Ends the call well; `message` is the last answer, with room in front of it. */
  end(message?: Buffer): void {
    if (!this.#canWrite()) return;
    this.respond();
    this.#isOver = true;
    if (message === undefined) this.#stream.end();
    else {
      writeMessageHeader(message);
      this.#stream.end(message);
    }
    // Whoever never takes the rest would keep it for as long as its connection.
    this.#wheel.set(this, this.#environment.stallMs);
  }

  /** Ends the call with what went wrong. */
  fail(thrown: unknown): void {
    if (!this.#canWrite()) return;
    const error = toHubError(thrown);
    this.#environment.observe({
      kind: 'grpc-call-failed',
      method: this.#method.path,
      peer: peerOf(this.#stream),
      code: error.code,
      message: error.message,
      ...(error.code === 'internal' && { cause: error.cause ?? error }),
    });
    const trailers = trailersOf(statusOfError(error));
    if (this.#stream.headersSent) {
      this.#trailers = trailers;
      this.end();
      return;
    }
    this.#isOver = true;
    this.#stream.respond({ ...answerHeaders, ...trailers }, endOptions);
    // What it sends all the same is not wanted.
    if (!this.#stream.readableEnded) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** No status could reach the caller: only a reset ends a stream that is not read. */
  override onAlarm(): void {
    const { observe, stallMs } = this.#environment;
    const reason = `took nothing for ${stallMs} ms`;
    observe({ kind: 'grpc-stream-reset', method: this.#method.path, peer: peerOf(this.#stream), reason });
    this.#stream.destroy();
  }

  #begin(): void {
    if (!this.#canWrite()) return;
    const { authenticator, maxHeaderBytes } = this.#environment;
    try {
      if (this.#request === undefined) throw new HubError('unimplemented', 'the call ended without a whole request');
      checkHeaderBytes(headerBytes(this.#headers), maxHeaderBytes);
      authenticator.authenticate(plainCredentials(this.#stream, this.#headers)).then(
        (principal) => this.#serve(principal),
        (thrown: unknown) => this.fail(thrown),
      );
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  #serve(principal: Principal): void {
    if (!this.#canWrite()) return;
    this.principal = principal;
    if (principal.expiresAtMs !== undefined) this.#endWith(principal.expiresAtMs);
    const request = this.#request!;
    this.#request = undefined;
    try {
      this.#method.serve(this, request);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** The call ends with the credential that opened it. */
  #endWith(expiresAtMs: number): void {
    const expiry = new Alarm(() => {
      this.fail(new HubError('unauthenticated', 'the credential of this stream has expired'));
      this.#tellLeft();
    });
    this.#expiry = expiry;
    this.#wheel.set(expiry, expiresAtMs - this.#environment.clock.now());
  }

  #left(): void {
    this.#wheel.clear(this);
    if (this.#expiry !== undefined) this.#wheel.clear(this.#expiry);
    const wasOver = this.#isOver;
    this.#isOver = true;
    if (!wasOver) this.#tellLeft();
  }

  #tellLeft(): void {
    this.#onDrain?.();
    this.onLeft?.();
    this.onLeft = undefined;
  }

  /** False also in the moment between the loss of a stream and its 'close'. */
  #canWrite(): boolean {
    return !this.#isOver && !this.#stream.destroyed && !this.#stream.closed;
  }
}
