import type { ServerHttp2Stream } from 'node:http2';
import { Metadata, type Server, type ServerDuplexStream } from '@grpc/grpc-js';
import { HubError } from '../errors.ts';
import { credentialsOf } from './access.ts';
import { metadataBytes } from './header-limit.ts';
import { type BidiHandler, RawCall, type RawCallEnvironment, type RawCallListener } from './raw-call.ts';
import type { CallStatus } from './status.ts';

type BufferCall = ServerDuplexStream<Buffer, Buffer>;

/** Lets grpc-js serve those calls of a bidi method that want more than a plain one: a deadline, compressed messages. */
export function registerBidi(server: Server, path: string, handle: BidiHandler, environment: RawCallEnvironment): void {
  const take = (bidi: BufferCall): void =>
    handle(new GrpcJsCall(bidi, environment), {
      metadata: bidi.metadata,
      headerBytes: metadataBytes(bidi.metadata),
      credentials: () => credentialsOf(bidi),
    });
  const asIs = (bytes: Buffer): Buffer => bytes;
  if (!server.register(path, take, asIs, asIs, 'bidi'))
    throw new HubError('invalid-argument', `the method ${path} is served already`);
}

/** A bidi call of grpc-js, which does its headers, its status, its deadline, and its messages where they are compressed. */
class GrpcJsCall extends RawCall {
  readonly #call: BufferCall;
  readonly #isCompressed: boolean;

  constructor(call: BufferCall, environment: RawCallEnvironment) {
    const { stream, incomingEncoding } = innerCallOf(call);
    super(stream, call.getPath(), call.getPeer(), environment);
    this.#call = call;
    this.#isCompressed = incomingEncoding !== 'identity';
    call.sendMetadata(new Metadata());
  }

  protected override finish(status?: CallStatus): void {
    if (status === undefined) this.#call.end();
    else this.#call.emit('error', status);
  }

  protected override read(listener: RawCallListener): void {
    if (this.#isCompressed) {
      this.#call.on('data', (bytes: Buffer) => listener.onMessage(bytes));
      this.#call.once('end', () => this.end());
      return;
    }
    // Nobody has asked grpc-js to read, so all that came is still in the stream.
    this.stream.removeAllListeners('data');
    super.read(listener);
  }
}

/** What grpc-js knows of a call and shows nobody. */
interface InnerCall {
  readonly stream: ServerHttp2Stream;
  readonly incomingEncoding: string;
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
    typeof Reflect.get(value, 'incomingEncoding') === 'string'
  );
}
