import { once } from 'node:events';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createServer, type Server as HttpServer, type ServerResponse } from 'node:http';
import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { HubError } from '../errors.ts';
import { malformedAnswer } from './app.ts';
import type { GatewayLimits, GatewayOptions } from './options.ts';
import type { App } from './room.ts';
import { routeUpgrade } from './ws/upgrade.ts';

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Reads `host:port`, `[::1]:port` or `unix:///path`. Throws `invalid-argument`. */
export function parseAddress(text: string): ListenAddress {
  if (text.startsWith('unix:///')) return { kind: 'unix', path: text.slice('unix://'.length) };
  const match = /^(\[[0-9a-f:.]+\]|[^:/\s]+):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535)
    throw new HubError('invalid-argument', `"${text}" is no address to listen on: host:port or unix:///path`);
  return { kind: 'tcp', host: match[1]!.replace(/^\[|\]$/g, ''), port };
}

/** One open address. */
export interface Listener {
  readonly url: string;
  /** Takes no new connections and lets the old ones end what they are at. */
  stop(): Promise<void>;
  /** Cuts all connections. */
  cut(): void;
}

export async function listen(
  app: App,
  address: ListenAddress,
  tls: GatewayOptions['tls'],
  limits: Required<GatewayLimits>,
): Promise<Listener> {
  const isSecure = address.kind === 'tcp' && tls !== undefined;
  const sessions = new Set<ServerHttp2Session>();
  const sockets = new Set<Socket>();
  const http = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: Math.min(10_000, limits.requestMs),
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: Math.min(1_000, limits.requestMs),
    keepAliveTimeout: 65_000,
    // A request without Host gets its answer from the guards, as problem JSON.
    requireHostHeader: false,
  };
  const server: Server = isSecure ? secureServer(app, tls, http, sessions) : createServer(http, app.routing as never);
  server.maxConnections = limits.connections;
  if (!isSecure) (server as HttpServer).timeout = limits.requestMs;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  // An answer that nobody reads. While nothing is waiting, silence is fine: a command may take its time.
  server.on('timeout', (socket: Socket) => {
    if (socket.writableLength > 0) socket.destroy();
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // Not over an answer that has begun.
    const current = (socket as { _httpMessage?: { headersSent: boolean } | null })._httpMessage;
    const isFresh = socket.writable && current?.headersSent !== true;
    if (error.code === 'ECONNRESET' || !isFresh) socket.destroy();
    else socket.end(malformedAnswer(error.code), () => socket.destroy());
  });
  server.on('upgrade', (request, socket, head) => routeUpgrade(app, request, socket, head));
  let isStopping = false;
  // A connection that was busy when the server stopped would be kept alive after its answer.
  server.on('request', (_, response: ServerResponse) => {
    response.once('close', () => {
      if (isStopping && 'closeIdleConnections' in server)
        setImmediate(() => (server as HttpServer).closeIdleConnections());
    });
  });
  await open(server, address);
  const closed = once(server, 'close');
  return {
    url: urlOf(server, address, isSecure),
    async stop() {
      isStopping = true;
      server.close();
      for (const session of sessions) session.close();
      await closed;
    },
    cut() {
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function secureServer(
  app: App,
  tls: NonNullable<GatewayOptions['tls']>,
  http: { maxHeaderSize: number; headersTimeout: number; requestTimeout: number },
  sessions: Set<ServerHttp2Session>,
): Server {
  const server = createSecureServer(
    {
      ...http,
      ...tls,
      allowHTTP1: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: 10_000,
      maxHeaderListPairs: 128,
      maxSessionMemory: 10,
      settings: { maxConcurrentStreams: 128, maxHeaderListSize: http.maxHeaderSize, enablePush: false },
    },
    app.routing as never,
  );
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    // Broken frames end their session and nothing else.
    session.on('error', () => session.destroy());
    // A session on which nothing at all moves; event streams have their keepalives.
    session.setTimeout(65_000, () => session.close());
  });
  server.on('tlsClientError', (_, socket) => socket.destroy());
  return server;
}

async function open(server: Server, address: ListenAddress): Promise<void> {
  if (address.kind === 'unix') await removeDeadSocket(address.path);
  const where = address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
  try {
    server.listen(where);
    await once(server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const shown = address.kind === 'unix' ? `unix://${address.path}` : `${address.host}:${address.port}`;
    const folder = address.kind === 'unix' ? dirname(address.path) : undefined;
    const isMissing = folder !== undefined && !(await lstat(folder).catch(() => undefined));
    const why = isMissing
      ? `there is no directory ${folder}`
      : code === 'EADDRINUSE'
        ? 'something else listens there'
        : ((error as Error).message ?? code);
    throw new HubError('unavailable', `cannot listen on ${shown}: ${why}`, { cause: error });
  }
  if (address.kind === 'unix') await chmod(address.path, 0o660);
}

/** A process that was killed leaves its socket file behind; one that answers is left alone. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || !found.isSocket()) return;
  const probe = connect(path);
  const isAlive = await new Promise<boolean>((resolve) => {
    probe.once('connect', () => resolve(true));
    probe.once('error', () => resolve(false));
  });
  probe.destroy();
  if (!isAlive) await unlink(path);
}

function urlOf(server: Server, address: ListenAddress, isSecure: boolean): string {
  if (address.kind === 'unix') return `unix://${address.path}`;
  const { port } = server.address() as AddressInfo;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${isSecure ? 'https' : 'http'}://${host}:${port}`;
}
