import type { EventEmitter } from 'node:events';
import {
  type ServiceDefinition as GrpcJsServiceDefinition,
  Metadata,
  type Server,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import type { CallContext, CompatServiceDefinition, ServiceImplementation } from 'nice-grpc';
import { Metadata as NiceMetadata, ServerError } from 'nice-grpc';
import type { Authenticator, Principal } from '../auth/principal.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { encodeMessage, type MessageType } from '../protocol/codec.ts';
import { authenticateCall } from './access.ts';
import type { GrpcFact } from './facts.ts';
import { forgetRequestBytes, http2StreamOf } from './raw-call.ts';
import { type CallStatus, statusOfError } from './status.ts';

/** What our implementations find in their context beside nice-grpc's own. */
export interface WithPrincipal {
  /** Who is calling. Anonymous, without scopes, in services that were added as `open`. */
  readonly principal: Principal;
}

/** A service in nice-grpc's shape: any definition that nice-grpc takes, and its implementation. */
export interface GrpcService<D extends CompatServiceDefinition = CompatServiceDefinition> {
  readonly definition: D;
  readonly implementation: ServiceImplementation<D, WithPrincipal>;
  /** True: callers need no credential (health, reflection). Default: false. */
  readonly isOpen?: boolean | undefined;
}

/** Ties a definition to its implementation, checked by the compiler. */
export function grpcService<D extends CompatServiceDefinition>(
  definition: D,
  implementation: ServiceImplementation<D, WithPrincipal>,
  options: { readonly isOpen?: boolean } = {},
): GrpcService {
  return { definition, implementation, isOpen: options.isOpen } as unknown as GrpcService;
}

export interface ServiceEnvironment {
  readonly authenticator: Authenticator;
  readonly clock: Clock;
  readonly observe: (fact: GrpcFact) => void;
  /** A caller that takes nothing of a stream for this long loses it, in ms. */
  readonly stallMs: number;
  /** Bytes of metadata that a call may bring. */
  readonly maxHeaderBytes: number;
  /** Paths of streams that never end by themselves, and those of them that are open: closing the server ends them. */
  readonly endless: { readonly paths: ReadonlySet<string>; readonly open: Set<OpenStream> };
}

/** A stream that is being served. */
export interface OpenStream {
  /** Ends it with this error, once. */
  end(why: HubError): void;
}

/**
 * Serves implementations of nice-grpc's shape on a grpc-js server that has other handlers too. nice-grpc's own server
 * keeps its grpc-js server to itself, and the stream to devices needs that one.
 */
export function addService(server: Server, service: GrpcService, environment: ServiceEnvironment): void {
  const implementation = service.implementation as Record<string, AnyMethod | undefined>;
  for (const [name, method] of methodsOf(service.definition)) {
    const run = implementation[name]?.bind(implementation);
    if (run === undefined) continue;
    const handler = new MethodHandler(method, run, service.isOpen === true, environment);
    if (!server.register(method.path, handler.handle, method.serialize, method.deserialize, method.kind))
      throw new HubError('invalid-argument', `the method ${method.path} is served already`);
  }
}

/** The full names of a definition's services: `signalbox.v1.ClientService`. */
export function serviceNameOf(definition: CompatServiceDefinition): string {
  return methodsOf(definition)[0]?.[1].path.split('/')[1] ?? '';
}

type AnyMethod = (request: unknown, context: CallContext & WithPrincipal) => unknown;
type AnyCall =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;
type Callback = (error: CallStatus | null, value?: unknown, trailer?: Metadata) => void;

interface Method {
  readonly path: string;
  readonly kind: 'unary' | 'serverStream' | 'clientStream' | 'bidi';
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  serialize(value: unknown): Buffer;
  deserialize(bytes: Buffer): unknown;
}

const anonymous: Principal = { subject: 'anonymous', tenant: 'default', scopes: new Set() };

class MethodHandler {
  readonly #method: Method;
  readonly #run: AnyMethod;
  readonly #isOpen: boolean;
  readonly #environment: ServiceEnvironment;

  constructor(method: Method, run: AnyMethod, isOpen: boolean, environment: ServiceEnvironment) {
    this.#method = method;
    this.#run = run;
    this.#isOpen = isOpen;
    this.#environment = environment;
  }

  readonly handle = (call: AnyCall, callback?: Callback): void => {
    // An async handler's rejection would be nobody's: both ends of the promise are here.
    this.#serve(call).then(
      (end) => {
        callback?.(null, end.value, end.trailer);
        this.#watchLastBytes(call);
      },
      (thrown: unknown) => {
        this.#fail(call, thrown, callback);
        this.#watchLastBytes(call);
      },
    );
  };

  /** The call is over on our side. Whoever never takes the rest of it would keep it for as long as its connection. */
  #watchLastBytes(call: AnyCall): void {
    const stream = http2StreamOf(call);
    if (stream.destroyed) return;
    const letGo = this.#environment.clock.after(this.#environment.stallMs, () => this.#reset(call));
    stream.once('close', letGo);
  }

  /** No status could reach it: only a reset ends a stream that is not read. */
  #reset(call: AnyCall): void {
    const { observe, stallMs } = this.#environment;
    const reason = `took nothing for ${stallMs} ms`;
    observe({ kind: 'grpc-stream-reset', method: this.#method.path, peer: call.getPeer(), reason });
    http2StreamOf(call).destroy();
  }

  async #serve(call: AnyCall): Promise<{ value?: unknown; trailer?: Metadata }> {
    const { authenticator, maxHeaderBytes } = this.#environment;
    const context = new Context(call);
    checkHeaders(call.metadata, maxHeaderBytes);
    // Early headers: they tell the caller that it has reached us, however long the first answer takes.
    if (this.#method.responseStream) call.sendMetadata(new Metadata());
    if (!this.#isOpen) context.principal = await authenticateCall(call, authenticator);
    if (context.ended) throw context.ended;

    const input = this.#method.requestStream
      ? (call as ServerReadableStream<unknown, unknown>)
      : (call as ServerUnaryCall<unknown, unknown>).request;
    const output = this.#run(input, context);
    if (!this.#method.requestStream) forgetRequestBytes(call);
    if (!this.#method.responseStream) {
      const value = await output;
      context.isDone = true;
      return { value, trailer: context.grpcTrailer() };
    }
    const writable = call as ServerWritableStream<unknown, unknown>;
    const { paths, open } = this.#environment.endless;
    if (paths.has(this.#method.path)) open.add(context);
    const letGo = this.#endWithCredential(context);
    try {
      await this.#pump(output as AsyncIterable<unknown>, writable, context);
    } finally {
      letGo();
      open.delete(context);
    }
    context.isDone = true;
    writable.end(context.grpcTrailer());
    return {};
  }

  /** Ends a stream when the credential that opened it has expired. Returns the release. */
  #endWithCredential(context: Context): () => void {
    const { expiresAtMs } = context.principal;
    if (expiresAtMs === undefined) return () => undefined;
    const { clock } = this.#environment;
    const look = (): void => {
      const leftMs = expiresAtMs - clock.now();
      // One timer reaches 24 days; certificates reach further.
      if (leftMs > 0) letGo = clock.after(leftMs, look);
      else context.end(new HubError('unauthenticated', 'the credential of this stream has expired'));
    };
    let letGo = clock.after(Math.max(0, expiresAtMs - clock.now()), look);
    return () => letGo();
  }

  async #pump(
    output: AsyncIterable<unknown>,
    call: ServerWritableStream<unknown, unknown>,
    context: Context,
  ): Promise<void> {
    const iterator = output[Symbol.asyncIterator]();
    // Not awaited: a generator's return() waits for what it is doing, which the signal ends.
    context.onEnd(() => void Promise.resolve(iterator.return?.()).catch(() => undefined));
    for (;;) {
      const step = await iterator.next();
      context.throwIfEnded();
      if (step.done) return;
      if (!call.write(step.value)) await this.#drained(call, context);
    }
  }

  /** Resolves when the call can take more; a peer that takes nothing for too long loses its stream. */
  #drained(call: ServerWritableStream<unknown, unknown>, context: Context): Promise<void> {
    const { clock, stallMs } = this.#environment;
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        letGo();
        forget();
        call.off('drain', settle);
        if (context.ended === undefined) resolve();
        else reject(context.ended);
      };
      const letGo = clock.after(stallMs, () => this.#reset(call));
      call.on('drain', settle);
      const forget = context.onEnd(settle);
    });
  }

  #fail(call: AnyCall, thrown: unknown, callback: Callback | undefined): void {
    const status = this.#statusOf(call, thrown);
    if (callback) callback(status);
    else call.emit('error', status);
  }

  #statusOf(call: AnyCall, thrown: unknown): CallStatus {
    if (thrown instanceof ServerError) return { code: thrown.code, details: thrown.details, metadata: new Metadata() };
    const error = isAbort(thrown) ? new HubError('command-cancelled', 'the call was cancelled') : toHubError(thrown);
    if (!call.cancelled)
      this.#environment.observe({
        kind: 'grpc-call-failed',
        method: this.#method.path,
        peer: call.getPeer(),
        code: error.code,
        message: error.message,
        ...(error.code === 'internal' && { cause: error.cause ?? error }),
      });
    return statusOfError(error);
  }
}

/** nice-grpc's call context, and ours; what few look at is made when it is looked at. */
class Context implements CallContext, WithPrincipal, OpenStream {
  principal = anonymous;
  ended: HubError | undefined;
  readonly #call: AnyCall;
  /** All is told: what the call says from now on is of no interest. */
  isDone = false;
  #aborter: AbortController | undefined;
  readonly #onEnd = new Set<() => void>();
  #metadata: NiceMetadata | undefined;
  #header: NiceMetadata | undefined;
  #trailer: NiceMetadata | undefined;

  constructor(call: AnyCall) {
    this.#call = call;
    const events: EventEmitter = call;
    // It also comes after a normal end.
    events.on('cancelled', () => {
      if (!this.isDone) this.end(new HubError('command-cancelled', 'the caller has left'));
    });
  }

  get peer(): string {
    return this.#call.getPeer();
  }
  get signal(): AbortSignal {
    if (!this.#aborter) {
      this.#aborter = new AbortController();
      if (this.ended) this.#aborter.abort();
    }
    return this.#aborter.signal;
  }
  get metadata(): NiceMetadata {
    this.#metadata ??= NiceMetadata(
      Object.entries(this.#call.metadata.getMap()).map(([key, value]) => [
        key,
        typeof value === 'string' ? value : new Uint8Array(value),
      ]),
    );
    return this.#metadata;
  }
  get header(): NiceMetadata {
    this.#header ??= NiceMetadata();
    return this.#header;
  }
  get trailer(): NiceMetadata {
    this.#trailer ??= NiceMetadata();
    return this.#trailer;
  }

  sendHeader(): void {
    this.#call.sendMetadata(toGrpcJsMetadata(this.#header) ?? new Metadata());
  }

  grpcTrailer(): Metadata | undefined {
    return toGrpcJsMetadata(this.#trailer);
  }

  /** Ends what runs, once. */
  end(why: HubError): void {
    if (this.ended !== undefined) return;
    this.ended = why;
    this.#aborter?.abort();
    for (const run of this.#onEnd) run();
    this.#onEnd.clear();
  }

  /** Calls `run` at the end, or soon if that is past. Returns the release. */
  onEnd(run: () => void): () => void {
    if (this.ended === undefined) this.#onEnd.add(run);
    else process.nextTick(run);
    return () => this.#onEnd.delete(run);
  }

  throwIfEnded(): void {
    if (this.ended !== undefined) throw this.ended;
  }
}

export function toGrpcJsMetadata(metadata: NiceMetadata | undefined): Metadata | undefined {
  if (metadata === undefined) return undefined;
  const result = new Metadata();
  for (const [key, values] of metadata)
    for (const value of values) result.add(key, typeof value === 'string' ? value : Buffer.from(value));
  return result;
}

/** Throws `resource-exhausted` for more or longer headers than a call has any use for. */
export function checkHeaders(metadata: Metadata, maxBytes: number): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(metadata.getMap())) bytes += key.length + value.length;
  if (bytes > maxBytes)
    throw new HubError('resource-exhausted', `the call brings ${bytes} bytes of metadata, the limit is ${maxBytes}`);
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}

interface TsProtoMethod {
  readonly name: string;
  readonly requestType: { decode(bytes: Uint8Array): unknown };
  readonly requestStream: boolean;
  readonly responseType: MessageType<unknown>;
  readonly responseStream: boolean;
}

function methodsOf(definition: CompatServiceDefinition): [string, Method][] {
  if (isTsProto(definition))
    return Object.entries(definition.methods).map(([name, method]) => [
      name,
      {
        path: `/${definition.fullName}/${method.name}`,
        kind: kindOf(method),
        requestStream: method.requestStream,
        responseStream: method.responseStream,
        serialize: (value) => asBuffer(encodeMessage(method.responseType, value)),
        deserialize: (bytes) => method.requestType.decode(bytes),
      },
    ]);
  return Object.entries(definition as GrpcJsServiceDefinition).map(([name, method]) => [
    name,
    {
      path: method.path,
      kind: kindOf(method),
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      serialize: (value) => asBuffer(method.responseSerialize(value)),
      deserialize: (bytes) => method.requestDeserialize(bytes),
    },
  ]);
}

function isTsProto(
  definition: object,
): definition is { fullName: string; methods: Readonly<Record<string, TsProtoMethod>> } {
  return typeof Reflect.get(definition, 'fullName') === 'string';
}

function kindOf(method: { requestStream: boolean; responseStream: boolean }): Method['kind'] {
  if (method.requestStream) return method.responseStream ? 'bidi' : 'clientStream';
  return method.responseStream ? 'serverStream' : 'unary';
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
