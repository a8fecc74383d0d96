import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { MessageSplitter, withMessageRoom, writeMessageHeader } from '../protocol/message-splitter.ts';
import { connectPath, errorOfStatus, grpcStatus, statusOfHttp } from './grpc-status.ts';
import type { DeviceTls } from './grpc-wire.ts';
import type { Dial, HubWire, HubWireListener } from './hub-wire.ts';

export interface Http2WireOptions {
  readonly addresses: readonly string[];
  readonly tls: DeviceTls | true | undefined;
  /** Chooses with which address to begin. Default: the first. */
  readonly random?: (() => number) | undefined;
  readonly clock?: Clock | undefined;
}

/** An HTTP/2 ping goes out this often, and has to come back within the second, in ms: as grpc-js is set up elsewhere. */
const pingEveryMs = 20_000;
const pongWithinMs = 10_000;
/** The hub limits payloads; this only bounds what a broken one can do. */
const maxMessageBytes = 64 * 1024 * 1024;

/**
 * gRPC spoken straight over node:http2, by the one method that a device needs. It costs a device half of what grpc-js
 * does for each frame, whose layers for balancing, retries and interceptors have nothing to do here. Each attempt has a
 * connection of its own, so that a dead one is left behind for good; and, of several addresses, the next one: the hub
 * that was lost, or sends its devices away, is not asked again first.
 */
export function http2Dial({ addresses, tls, random, clock = systemClock }: Http2WireOptions): Dial {
  const roads = addresses.map((address) => roadTo(address, tls === true ? {} : tls));
  let next = random ? Math.floor(random() * roads.length) : 0;
  return (listener, token) => new Http2Wire(roads[next++ % roads.length]!, listener, token, clock);
}

/** How to reach one hub. */
interface Road {
  readonly address: string;
  readonly authority: string;
  connect(): Socket;
}

class Http2Wire implements HubWire {
  readonly #address: string;
  readonly #listener: HubWireListener;
  readonly #socket: Socket;
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #clock: Clock;
  #status: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
  #error: HubError | undefined;
  #isOver = false;
  #letGoOfPing: () => void;

  constructor(road: Road, listener: HubWireListener, token: string | undefined, clock: Clock) {
    this.#address = road.address;
    this.#listener = listener;
    this.#clock = clock;
    this.#socket = road.connect();
    this.#session = connect(road.authority, {
      createConnection: () => this.#socket,
      settings: { enablePush: false },
    });
    this.#session.on('error', (error) => this.#broke(error));
    this.#letGoOfPing = clock.after(pingEveryMs, this.#ping);
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

  readonly #ping = (): void => {
    this.#letGoOfPing = this.#clock.after(pongWithinMs, () =>
      this.#broke(new Error(`no answer to a ping within ${pongWithinMs} ms`)),
    );
    const isSent = this.#session.ping(() => {
      if (this.#isOver) return;
      this.#letGoOfPing();
      this.#letGoOfPing = this.#clock.after(pingEveryMs, this.#ping);
    });
    if (!isSent) this.#broke(new Error('the connection takes no pings'));
  };

  #free(): void {
    this.#letGoOfPing();
    // What was written goes out first, if it can; a connection that is dead is not waited for.
    setImmediate(() =>
      setImmediate(() => {
        this.#session.destroy();
        this.#socket.destroy();
      }),
    );
  }
}

/** Throws `invalid-argument` for an address or certificate that cannot be. */
function roadTo(address: string, tls: DeviceTls | undefined): Road {
  const target = parse(address);
  const authority = `${tls ? 'https' : 'http'}://${'path' in target ? 'localhost' : address}`;
  if (!tls) return { address, authority, connect: () => connectPlain(target) };
  const { ca, cert, key, serverName } = tls;
  let secureContext: ReturnType<typeof createSecureContext>;
  try {
    secureContext = createSecureContext({ ca, cert, key });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid-argument', `tls: ca, cert or key cannot be used: ${reason}`, { cause: error });
  }
  const name = serverName ?? ('path' in target ? 'localhost' : target.host);
  return {
    address,
    authority,
    connect: () =>
      connectTls({
        ...target,
        secureContext,
        ALPNProtocols: ['h2'],
        // TLS does not know IPs as names, and Node warns of them (DEP0123); the certificate is checked against it all the same.
        ...(isIP(name) === 0 && { servername: name }),
      }),
  };
}

function parse(address: string): { host: string; port: number } | { path: string } {
  const unix = /^unix:(?:\/\/)?(.+)$/.exec(address);
  if (unix) return { path: unix[1]! };
  const tcp = /^(?:dns:(?:\/\/\/)?)?(\[[^\]]+\]|[^:/]+):(\d{1,5})$/.exec(address);
  const port = Number(tcp?.[2]);
  if (!tcp || port > 65_535)
    throw new HubError('invalid-argument', `address ${JSON.stringify(address)} is not host:port or unix:///path`);
  return { host: tcp[1]!.replace(/^\[|\]$/g, ''), port };
}
