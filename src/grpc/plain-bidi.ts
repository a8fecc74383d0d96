import {
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
  sensitiveHeaders,
} from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import { headerBytes } from './header-limit.ts';
import { answerHeaders, answerOptions, isPlain, peerOf, plainCredentials, trailersOf } from './plain-headers.ts';
import { type BidiHandler, type Opening, RawCall, type RawCallEnvironment } from './raw-call.ts';
import type { CallStatus } from './status.ts';

/**
 * Takes the plain calls of bidi methods past grpc-js, which keeps 4 KiB of objects for each: as much as all else that is
 * ours of a silent device. `handlers`: by path. What it gives tells whether a call was taken; others are grpc-js's.
 */
export function plainBidis(
  handlers: ReadonlyMap<string, BidiHandler>,
  environment: RawCallEnvironment,
): (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean {
  return (stream, headers) => {
    const path = headers[':path'] ?? '';
    const handle = handlers.get(path);
    if (handle === undefined || !isPlain(headers)) return false;
    handle(new PlainBidi(stream, path, environment), new PlainOpening(stream, headers));
    return true;
  };
}

/** A bidi call that grpc-js knows nothing of. */
class PlainBidi extends RawCall {
  constructor(stream: ServerHttp2Stream, path: string, environment: RawCallEnvironment) {
    super(stream, path, peerOf(stream), environment);
    stream.on('error', ignore);
    if (this.#isThere) stream.respond(began, answerOptions);
  }

  protected override finish(status?: CallStatus): void {
    if (!this.#isThere) return;
    const { stream } = this;
    const trailers = status === undefined ? ended : trailersOf(status);
    stream.on('wantTrailers', () => {
      if (!stream.closed) stream.sendTrailers(trailers);
    });
    stream.end();
  }

  /** False also in the moment between the loss of a stream and its 'close'. */
  get #isThere(): boolean {
    return !this.stream.destroyed && !this.stream.closed;
  }
}

/** As grpc-js says it. Not for HPACK's tables: an entry would stay with each connection, and be used once. */
const began: OutgoingHttpHeaders = {
  ...answerHeaders,
  'grpc-encoding': 'identity',
  'grpc-accept-encoding': 'identity,deflate,gzip',
  [sensitiveHeaders]: ['content-type', 'grpc-encoding', 'grpc-accept-encoding'],
};
const ended: OutgoingHttpHeaders = { 'grpc-status': 0, 'grpc-message': 'OK' };

// What an error means is told by 'close', which comes after it.
const ignore = (): void => undefined;

class PlainOpening implements Opening {
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.#stream = stream;
    this.#headers = headers;
  }

  get metadata(): Metadata {
    const metadata = Metadata.fromHttp2Headers(this.#headers);
    for (const name of ofTheCall) metadata.remove(name);
    return metadata;
  }

  get headerBytes(): number {
    return headerBytes(this.#headers);
  }

  credentials() {
    return plainCredentials(this.#stream, this.#headers);
  }
}

/** What grpc-js does not show as metadata either. */
const ofTheCall = ['grpc-encoding', 'grpc-accept-encoding', 'accept-encoding', 'te', 'content-type'] as const;
