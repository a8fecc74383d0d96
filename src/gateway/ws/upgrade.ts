import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { RequestError } from '../problem.ts';
import type { App } from '../room.ts';
import type { Sink, Wire } from '../sse/sink.ts';
import { acceptKey, closeFrame, FrameParser, opcodes, wsFrame } from './frames.ts';

/** The sockets of requests that ask for another protocol: node has let go of them. */
const upgrades = new WeakMap<IncomingMessage, { readonly socket: Socket; readonly head: Buffer }>();

/** Pongs are owed to who reads; one who does not gets no more than this. Bytes. */
const maxWaitingForPong = 64 * 1024;

/** How long the other end has to say goodbye in turn, in ms. */
const goodbyeMs = 5000;

/** Lets the routes answer such a request like any other: with a problem, or by `webSocketWire`. */
export function routeUpgrade(app: App, request: IncomingMessage, duplex: Duplex, head: Buffer): void {
  const socket = duplex as Socket;
  socket.on('error', () => socket.destroy());
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => socket.destroySoon());
  upgrades.set(request, { socket, head });
  app.routing(request, response);
}

/**
 * The socket as the wire of an event stream. What a watcher sends is not looked at, but for pings and its goodbye. Throws
 * `upgrade-required` or `malformed-request` when it is no WebSocket handshake.
 */
export function webSocketWire(request: IncomingMessage, response: ServerResponse): Wire {
  const upgrade = upgrades.get(request);
  const { upgrade: protocol, 'sec-websocket-key': key, 'sec-websocket-version': version } = request.headers;
  if (!upgrade || protocol?.toLowerCase() !== 'websocket')
    throw new RequestError('upgrade-required', 'this is for WebSockets; event streams are at /v1/events', {
      upgrade: 'websocket',
    });
  if (version !== '13' || typeof key !== 'string' || !/^[A-Za-z0-9+/]{22}==$/.test(key))
    throw new RequestError('malformed-request', 'the WebSocket handshake needs a key, and version 13', {
      'sec-websocket-version': '13',
    });
  const { socket, head } = upgrade;
  return {
    open(events) {
      if (socket.destroyed || !socket.writable) return undefined;
      response.detachSocket(socket);
      socket.setTimeout(0);
      socket.setNoDelay(true);
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(key)}\r\n\r\n`,
      );
      return webSocketSink(socket, head, events);
    },
  };
}

function webSocketSink(socket: Socket, head: Buffer, events: Parameters<Wire['open']>[0]): Sink {
  const parser = new FrameParser();
  let hasSaidGoodbye = false;
  const end = (code: number): void => {
    if (hasSaidGoodbye) return;
    hasSaidGoodbye = true;
    if (socket.writable) socket.end(closeFrame(code));
    // Whoever does not say goodbye in turn is not waited for.
    socket.setTimeout(goodbyeMs, () => socket.destroy());
  };
  const hear = (chunk: Buffer): void => {
    const { frames, fault } = parser.push(chunk);
    for (const { opcode, payload } of frames) {
      if (opcode === opcodes.close) {
        end(payload.length >= 2 ? payload.readUInt16BE() : 1000);
        return;
      }
      if (opcode === opcodes.ping && socket.writable && socket.writableLength < maxWaitingForPong)
        socket.write(wsFrame(opcodes.pong, payload));
    }
    if (fault === undefined) return;
    end(fault);
    socket.off('data', hear);
    socket.resume();
  };
  socket.on('data', hear);
  socket.on('drain', events.onDrain);
  socket.once('end', () => socket.end());
  socket.once('close', events.onClosed);
  if (head.length > 0) hear(head);
  return {
    write: (batch) => !socket.writable || hasSaidGoodbye || socket.write(batch.messages),
    get waiting() {
      return socket.writableLength;
    },
    end: () => end(1000),
    destroy: () => void socket.destroy(),
  };
}
