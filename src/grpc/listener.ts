import { chmodSync, existsSync, statSync, unlinkSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { GrpcFact } from './facts.ts';

/** Certificates in PEM. */
export interface GrpcTls {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** Authorities whose client certificates are taken. Default: none, no certificate is asked for. */
  readonly clientCa?: string | Buffer | undefined;
  /** True: no connection without a certificate of `clientCa`. Default: false, a token does as well. */
  readonly requireClientCert?: boolean | undefined;
}

export interface ListenerOptions {
  /** `host:port` (port 0: any free one) or `unix:///path`. */
  readonly address: string;
  /** For `host:port`; a Unix socket is plain, its file mode guards it. */
  readonly tls?: GrpcTls | undefined;
  /** Takes over a connection that has begun to speak HTTP/2. */
  readonly onConnection: (socket: Socket) => void;
  readonly clock: Clock;
  readonly observe: (fact: GrpcFact) => void;
  /** A connection has to say the whole HTTP/2 preface within this time, in ms. */
  readonly prefaceMs: number;
  /** Connections above this many are closed at once. */
  readonly maxConnections: number;
}

/** One address that is listened on, and the sockets that came from it. */
export interface Listener {
  /** As given, with the port filled in. */
  readonly address: string;
  readonly connections: number;
  /** Takes those connections that wait to be taken, and then no more; the file of a Unix socket goes. */
  stop(): Promise<void>;
  /** Ends every connection now. */
  destroy(): void;
  /** Resolves when no connection is left. */
  empty(): Promise<void>;
}

const ignore = (): void => undefined;

/** Whoever connects faster than this many can be taken is not waited for. */
const maxTurns = 1_000;

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const notHttp2 =
  'HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n' +
  'This port speaks gRPC over HTTP/2 only.\n';

/**
 * Listens, and hands on connections once they speak HTTP/2. grpc-js could listen by itself, but it would know neither
 * silence nor HTTP/1.1, and would not close the sockets that it has.
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const where = parseAddress(options.address);
  const sockets = new Set<Socket>();
  const emptied = new Set<() => void>();

  const admit = (socket: Socket): void => {
    // Over TLS this is not the socket of 'connection' below, but the one above it.
    socket.on('error', ignore);
    awaitPreface(socket, options);
  };
  // One function for all of them: there are many, and they stay for long.
  function gone(this: Socket): void {
    sockets.delete(this);
    if (sockets.size > 0) return;
    for (const tell of emptied) tell();
    emptied.clear();
  }
  const server: Server =
    options.tls !== undefined && where.kind === 'tcp'
      ? createTlsServer(tlsOptions(options.tls, options.prefaceMs), admit)
      : createServer(admit);
  server.maxConnections = options.maxConnections;
  let taken = 0;
  server.on('connection', (socket: Socket) => {
    taken++;
    sockets.add(socket);
    socket.setNoDelay(true);
    // A connection that breaks is no news: its streams tell what it means.
    socket.on('error', ignore);
    socket.on('close', gone);
  });
  server.on('drop', (data) => {
    refuse(options, `${data?.remoteAddress}:${data?.remotePort}`, 'too-many', `${options.maxConnections} are open`);
  });
  server.on('tlsClientError', (error: Error, socket: Socket) => {
    refuse(options, peerOf(socket), 'tls', error.message);
    socket.destroy();
  });

  if (where.kind === 'unix') await removeStaleSocket(where.path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new HubError('unavailable', `cannot listen on ${options.address}: ${explain(error, where)}`, { cause: error }),
      ),
    );
    if (where.kind === 'unix') server.listen(where.path, resolve);
    else server.listen(where.port, where.host, resolve);
  });
  if (where.kind === 'unix') chmodSync(where.path, 0o660);
  server.on('error', (error) => refuse(options, options.address, 'silent', error.message));

  // The system resets what still waits when the server closes, and libuv takes one in each turn of the event loop.
  const stop = async (): Promise<void> => {
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    await turn();
    for (let before = -1, turns = 0; taken !== before && turns < maxTurns; turns++) {
      before = taken;
      await turn();
    }
    server.close();
  };
  let stopping: Promise<void> | undefined;
  return {
    address:
      where.kind === 'unix' ? options.address : `${bracketed(where.host)}:${(server.address() as AddressInfo).port}`,
    get connections() {
      return sockets.size;
    },
    stop: () => (stopping ??= stop()),
    destroy() {
      for (const socket of sockets) socket.destroy();
    },
    empty: () => (sockets.size === 0 ? Promise.resolve() : new Promise((resolve) => emptied.add(resolve))),
  };
}

export type ParsedAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Throws `invalid-argument` unless it is `host:port`, `[ipv6]:port` or `unix:///absolute/path`. */
export function parseAddress(address: string): ParsedAddress {
  if (address.startsWith('unix:')) {
    const path = /^unix:\/\/(\/.+)$/.exec(address)?.[1];
    if (path === undefined)
      throw new HubError('invalid-argument', `address ${JSON.stringify(address)} is not of the form unix:///path`);
    if (Buffer.byteLength(path) > 103)
      throw new HubError('invalid-argument', `the path of a Unix socket has at most 103 bytes: ${path}`);
    return { kind: 'unix', path };
  }
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:/\s]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new HubError('invalid-argument', `address ${JSON.stringify(address)} is not of the form host:port`);
  return { kind: 'tcp', host: match[1] ?? match[2] ?? '', port };
}

/** Reads the first 24 bytes and puts them back: only what speaks HTTP/2 goes on to gRPC. */
function awaitPreface(socket: Socket, options: ListenerOptions): void {
  const letGo = options.clock.after(options.prefaceMs, () => {
    done();
    refuse(options, peerOf(socket), 'silent', `no HTTP/2 preface within ${options.prefaceMs} ms`);
    socket.destroy();
  });
  const done = (): void => {
    letGo();
    socket.off('readable', look);
    socket.off('close', done);
  };
  let seen: Buffer | undefined;
  const look = (): void => {
    const more = socket.read() as Buffer | null;
    if (more === null) return;
    seen = seen === undefined ? more : Buffer.concat([seen, more]);
    const length = Math.min(seen.length, preface.length);
    const isPreface = preface.subarray(0, length).equals(seen.subarray(0, length));
    if (isPreface && length < preface.length) return;
    done();
    if (isPreface) {
      socket.unshift(seen);
      options.onConnection(socket);
      return;
    }
    refuse(options, peerOf(socket), 'not-http2', 'what came is not HTTP/2');
    socket.end(notHttp2, () => socket.destroy());
  };
  socket.on('readable', look);
  socket.once('close', done);
}

function tlsOptions(tls: GrpcTls, handshakeTimeout: number): TlsOptions {
  return {
    cert: tls.cert,
    key: tls.key,
    ...(tls.clientCa !== undefined && { ca: tls.clientCa, requestCert: true }),
    rejectUnauthorized: tls.requireClientCert === true,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    handshakeTimeout,
  };
}

/** A socket file whose process is dead is removed; a live one is refused. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  // Connecting to any other file is refused as well: it would be taken for a dead socket.
  if (!found.isSocket()) throw new HubError('unavailable', `${path} is there and is not a socket: it is left alone`);
  const answer = await new Promise<'alive' | NodeJS.ErrnoException>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve('alive');
    });
    probe.once('error', resolve);
  });
  if (answer === 'alive') throw new HubError('unavailable', `unix://${path} is in use: another process listens on it`);
  if (answer.code === 'ECONNREFUSED') unlinkSync(path);
  else if (answer.code !== 'ENOENT')
    throw new HubError('unavailable', `unix://${path} is there and does not answer: ${answer.code}`);
}

function explain(error: NodeJS.ErrnoException, where: ParsedAddress): string {
  // The system's code for a directory that is not there is the same as for one that may not be written.
  if (where.kind === 'unix' && !existsSync(dirname(where.path))) return `there is no directory ${dirname(where.path)}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return 'the address is in use by another process';
    case 'EACCES':
      return 'no permission';
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'this machine has no such address';
    default:
      return error.message;
  }
}

type RefusalReason = Extract<GrpcFact, { kind: 'grpc-connection-refused' }>['reason'];

function refuse(options: ListenerOptions, peer: string, reason: RefusalReason, message: string): void {
  options.observe({ kind: 'grpc-connection-refused', peer, reason, message });
}

function peerOf(socket: Socket): string {
  return socket.remoteAddress === undefined ? 'unix' : `${socket.remoteAddress}:${socket.remotePort}`;
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
