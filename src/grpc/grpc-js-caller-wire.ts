import {
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  connectivityState,
  Metadata,
  status,
} from '@grpc/grpc-js';
import type { Clock } from '../flow/clock.ts';
import { messageRoom } from '../protocol/message-splitter.ts';
import type { CallEnd, CallerWire, CallListener, OpenCall } from './caller-wire.ts';
import type { ChannelParts } from './channel.ts';
import { HandOver } from './hand-over.ts';
import { LeftCalls } from './left-calls.ts';
import { SeveralChannels } from './several-channels.ts';

export interface GrpcJsCallerWireOptions extends ChannelParts {
  /** A call that has no connection by then has failed, in ms. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
}

/** Calls over grpc-js, for those who need what it alone can do (HTTP proxies, options of their own). */
export class GrpcJsCallerWire implements CallerWire {
  readonly #channel: SeveralChannels;
  readonly #client: Client;
  readonly #connectTimeoutMs: number;
  readonly #clock: Clock;
  readonly #leftCalls: LeftCalls;

  constructor({ targets, credentials, options, connectTimeoutMs, clock }: GrpcJsCallerWireOptions) {
    this.#channel = new SeveralChannels(targets, credentials, options);
    const channelOptions: ChannelOptions = { ...options, channelOverride: this.#channel };
    this.#client = new Client(targets[0]!, credentials, channelOptions);
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#clock = clock;
    this.#leftCalls = new LeftCalls(clock);
  }

  get hubs(): number {
    return this.#channel.size;
  }

  moveOn(hub: number): void {
    this.#channel.moveOn(hub);
  }

  call(method: string, request: Buffer, token: string | undefined, listener: CallListener): OpenCall {
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const credentials = new HandOver();
    const message = request.subarray(messageRoom);
    const stream = this.#client.makeServerStreamRequest(method, asIs, asIs, message, metadata, { credentials });
    const call = new GrpcJsCall(this.#channel.at, stream, credentials, listener, this.#leftCalls);
    if (this.#channel.getConnectivityState(false) !== connectivityState.READY)
      call.endUnlessConnected(this.#clock, this.#connectTimeoutMs);
    return call;
  }

  close(): void {
    this.#leftCalls.close();
    this.#client.close();
  }
}

class GrpcJsCall implements OpenCall {
  readonly hub: number;
  readonly #stream: ClientReadableStream<Buffer>;
  readonly #handOver: HandOver;
  readonly #leftCalls: LeftCalls;
  #listener: CallListener | undefined;
  #letGo: (() => void) | undefined;

  constructor(
    hub: number,
    stream: ClientReadableStream<Buffer>,
    handOver: HandOver,
    listener: CallListener,
    leftCalls: LeftCalls,
  ) {
    this.hub = hub;
    this.#stream = stream;
    this.#handOver = handOver;
    this.#listener = listener;
    this.#leftCalls = leftCalls;
    stream.on('data', (bytes: Buffer) => this.#listener?.onMessage(bytes));
    // The same comes by 'status', which also comes when all is well.
    stream.on('error', () => undefined);
    stream.on('status', (end) => {
      const isRefused = end.code === status.UNAVAILABLE && end.details === 'Stream refused by server';
      this.#end({ ...end, mayHaveArrived: handOver.wasMade && !isRefused });
    });
  }

  get mayHaveArrived(): boolean {
    return this.#handOver.wasMade;
  }

  /** Gives up unless there is a connection within `timeoutMs`. */
  endUnlessConnected(clock: Clock, timeoutMs: number): void {
    this.#letGo = clock.after(timeoutMs, () => {
      if (this.mayHaveArrived) return;
      this.#stream.cancel();
      this.#end({ code: status.UNAVAILABLE, details: `no answer within ${timeoutMs} ms`, mayHaveArrived: false });
    });
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  leave(): void {
    if (this.#listener === undefined) return;
    this.#listener = undefined;
    this.#letGo?.();
    if (!this.mayHaveArrived) {
      // A call to a hub that was never reached costs nothing to cancel.
      this.#stream.cancel();
      return;
    }
    // Read to its end, if it was paused: what is not read never ends.
    this.#stream.resume();
    this.#leftCalls.add(this);
  }

  cancel(): void {
    this.#listener = undefined;
    this.#letGo?.();
    this.#stream.cancel();
  }

  #end(end: CallEnd): void {
    this.#letGo?.();
    this.#leftCalls.delete(this);
    const listener = this.#listener;
    this.#listener = undefined;
    listener?.onEnd(end);
  }
}

const asIs = (bytes: Buffer): Buffer => bytes;
