import {
  Metadata,
  type Server,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { type CallContext, type CompatServiceDefinition, ServerError, type ServiceImplementation } from 'nice-grpc';
import type { Authenticator } from '../auth/principal.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { authenticateCall } from './access.ts';
import { type AnyCall, Context, type OpenStream, type WithPrincipal } from './call-context.ts';
import type { GrpcFact } from './facts.ts';
import { forgetRequestBytes, http2StreamOf } from './grpc-js-call.ts';
import { checkHeaderBytes, metadataBytes } from './header-limit.ts';
import { type Method, methodsOf } from './service-methods.ts';
import { type CallStatus, statusOfError } from './status.ts';

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

type AnyMethod = (request: unknown, context: CallContext & WithPrincipal) => unknown;
type Callback = (error: CallStatus | null, value?: unknown, trailer?: Metadata) => void;

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
    checkHeaderBytes(metadataBytes(call.metadata), maxHeaderBytes);
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

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}
