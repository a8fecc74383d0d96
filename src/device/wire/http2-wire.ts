import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import type { Socket } from 'node:net';
import { HubError } from '../../errors.ts';
import { type Clock, systemClock } from '../../flow/clock.ts';
import { MessageSplitter, withMessageRoom, writeMessageHeader } from '../../protocol/message-splitter.ts';
import { connectPath, errorOfStatus, grpcStatus, statusOfHttp } from './grpc-status.ts';
import type { DeviceTls } from './grpc-wire.ts';
import { type HubRoad, roadToHub } from './hub-road.ts';
import type { Dial, HubWire, HubWireListener } from './hub-wire.ts';
import { keepPinging } from './keep-pinging.ts';

export interface Http2WireOptions {
  readonly addresses: readonly string[];
  readonly tls: DeviceTls | true | undefined;
  /** Chooses with which address to begin. Default: the first. */
  readonly random?: (() => number) | undefined;
  readonly clock?: Clock | undefined;
}

/** The hub limits payloads; this only bounds what a broken one can do. */
const maxMessageBytes = 64 * 1024 * 1024;

/**
 * gRPC spoken straight over node:http2, by the one method that a device needs. It costs a device half of what grpc-js
 * does for each frame, whose layers for balancing, retries and interceptors have nothing to do here. Each attempt has a
 * connection of its own, so that a dead one is left behind for good; and, of several addresses, the next one: the hub
 * that was lost, or sends its devices away, is not asked again first.
 */
export function http2Dial({ addresses, tls, random, clock = systemClock }: Http2WireOptions): Dial {
  const roads = addresses.map((address) => roadToHub(address, tls === true ? {} : tls));
  let next = random ? Math.floor(random() * roads.length) : 0;
  return (listener, token) => new Http2Wire(roads[next++ % roads.length]!, listener, token, clock);
}

class Http2Wire implements HubWire {
  readonly #address: string;
  readonly #listener: HubWireListener;
  readonly #socket: Socket;
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  #status: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
  #error: HubError | undefined;
  #isOver = false;
  readonly #stopPinging: () => void;

  constructor(road: HubRoad, listener: HubWireListener, token: string | undefined, clock: Clock) {
    this.#address = road.address;
    this.#listener = listener;
    this.#socket = road.connect();
    this.#session = connect(road.authority, {
      createConnection: () => this.#socket,
      settings: { enablePush: false },
    });
    this.#session.on('error', (error) => this.#broke(error));
    this.#stopPinging = keepPinging(this.#session, clock, (error) => this.#broke(error));
    this.#stream = this.#session.request({
      ':method': 'POST',
      ':path': connectPath,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      'grpc-accept-encoding': 'identity',
      'user-agent': 'signalbox-device',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    });
    this.#read();
  }

  send(bytes: Buffer): boolean {
    if (this.#isOver || this.#stream.destroyed || this.#stream.writableEnded) return false;
    const message = withMessageRoom(bytes);
    writeMessageHeader(message);
    return this.#stream.write(message);
  }

  end(): void {
    if (!this.#isOver) this.#stream.end();
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    // Ends, if only in a moment: what was written goes out first, if it can.
    this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#free();
  }

  #read(): void {
    const splitter = new MessageSplitter(maxMessageBytes, (message) => {
      if (!this.#isOver) this.#listener.onFrame(message);
    });
    this.#stream.on('response', (headers) => {
      this.#status = headers;
    });
    this.#stream.on('trailers', (trailers) => {
      this.#status = { ...this.#status, ...trailers };
    });
    this.#stream.on('data', (chunk: Buffer) => {
      try {
        splitter.take(chunk);
      } catch (error) {
        this.#broke(error instanceof Error ? error : new Error(String(error)));
      }
    });
    this.#stream.on('drain', () => {
      if (!this.#isOver) this.#listener.onWritable();
    });
    this.#stream.on('error', (error) => this.#broke(error));
    // The status has come by then, and nobody has to wait for our side to end, too.
    this.#stream.on('end', () => setImmediate(() => this.#closed()));
    this.#stream.on('close', () => this.#closed());
  }

  #closed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#free();
    const { ':status': http = 0 } = this.#status;
    const code = grpcStatus(this.#status);
    if (code !== undefined) this.#listener.onClosed(errorOfStatus(code, this.#status['grpc-message'], this.#address));
    else if (http !== 0 && http !== 200)
      this.#listener.onClosed(errorOfStatus(statusOfHttp(http), `answered with HTTP ${http}`, this.#address));
    else this.#listener.onClosed(this.#error ?? this.#lost('the connection was dropped'));
  }

  /** Something is wrong with the connection; the first that is heard of it says what. */
  #broke(error: Error): void {
    this.#error ??= this.#lost(error.message || (error as NodeJS.ErrnoException).code || error.name, error);
    this.#session.destroy();
    this.#stream.destroy();
  }

  #lost(reason: string, cause?: Error): HubError {
    return new HubError('unavailable', `${this.#address}: ${reason}`, { cause });
  }

  #free(): void {
    this.#stopPinging();
    // What was written goes out first, if it can; a connection that is dead is not waited for.
    setImmediate(() =>
      setImmediate(() => {
        this.#session.destroy();
        this.#socket.destroy();
      }),
    );
  }
}
