import type { EventEmitter } from 'node:events';
import {
  Metadata,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { type CallContext, Metadata as NiceMetadata } from 'nice-grpc';
import type { Principal } from '../auth/principal.ts';
import { HubError } from '../errors.ts';

/** What our implementations find in their context beside nice-grpc's own. */
export interface WithPrincipal {
  /** Who is calling. Anonymous, without scopes, in services that were added as `open`. */
  readonly principal: Principal;
}

/** A stream that is being served. */
export interface OpenStream {
  /** Ends it with this error, once. */
  end(why: HubError): void;
}

export type AnyCall =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;
/** nice-grpc's call context, and ours; what few look at is made when it is looked at. */
export class Context implements CallContext, WithPrincipal, OpenStream {
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

const anonymous: Principal = { subject: 'anonymous', tenant: 'default', scopes: new Set() };
