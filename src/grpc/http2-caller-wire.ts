import type { OutgoingHttpHeaders } from 'node:http2';
import { roadToHub } from '../device/wire/hub-road.ts';
import type { Clock } from '../flow/clock.ts';
import { writeMessageHeader } from '../protocol/message-splitter.ts';
import type { CallerWire, CallListener, OpenCall } from './caller-wire.ts';
import type { ClientTls } from './channel.ts';
import { Http2Call } from './http2-call.ts';
import { HubLink } from './hub-link.ts';
import { LeftCalls } from './left-calls.ts';

export interface Http2CallerWireOptions {
  /** Tried in this order. */
  readonly addresses: readonly string[];
  readonly tls: ClientTls | true | undefined;
  /** An attempt to connect that takes longer has failed, in ms. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
}

/**
 * gRPC spoken straight over node:http2, one connection to each hub that is asked: for a caller with one kind of call
 * grpc-js's layers (balancing, retries, filters, interceptors) cost more than all the rest. Of several hubs one is used
 * at a time, and the next one while it cannot be reached. Throws `invalid-argument` for an address or certificate that
 * cannot be.
 */
export class Http2CallerWire implements CallerWire {
  readonly #links: readonly HubLink[];
  readonly #leftCalls: LeftCalls;
  readonly #authority: OutgoingHttpHeaders;
  #at = 0;
  /** Those of the token that was used last, by method. */
  readonly #headers = new Map<string, OutgoingHttpHeaders>();
  #token: string | undefined;

  constructor({ addresses, tls, connectTimeoutMs, clock }: Http2CallerWireOptions) {
    const own = tls === true ? {} : tls;
    this.#links = addresses.map((address) => new HubLink(roadToHub(address, own), connectTimeoutMs));
    this.#leftCalls = new LeftCalls(clock);
    this.#authority = own?.serverName === undefined ? {} : { ':authority': own.serverName };
  }

  get hubs(): number {
    return this.#links.length;
  }

  moveOn(hub: number): void {
    // Many calls are lost together: the first one moves on for all.
    if (hub === this.#at) this.#at = (this.#at + 1) % this.#links.length;
  }

  call(method: string, request: Buffer, token: string | undefined, listener: CallListener): OpenCall {
    writeMessageHeader(request);
    this.#pick();
    const call = new Http2Call(this.#at, this.#headersFor(method, token), request, listener, this.#leftCalls);
    this.#links[this.#at]!.call(call);
    return call;
  }

  close(): void {
    this.#leftCalls.close();
    for (const link of this.#links) link.close();
  }

  /** Stays with the current hub; if that could not be reached, goes on to the next one that has not failed. */
  #pick(): void {
    const count = this.#links.length;
    for (let i = 0; i < count; i++) {
      const at = (this.#at + i) % count;
      if (this.#links[at]!.hasFailed) continue;
      this.#at = at;
      return;
    }
  }

  #headersFor(method: string, token: string | undefined): OutgoingHttpHeaders {
    if (token !== this.#token) {
      this.#headers.clear();
      this.#token = token;
    }
    let headers = this.#headers.get(method);
    if (headers === undefined) {
      headers = {
        ...this.#authority,
        ':method': 'POST',
        ':path': method,
        'content-type': 'application/grpc+proto',
        te: 'trailers',
        'grpc-accept-encoding': 'identity',
        'user-agent': 'signalbox-caller',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      };
      this.#headers.set(method, headers);
    }
    return headers;
  }
}
