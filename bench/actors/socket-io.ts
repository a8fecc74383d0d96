// socket.io over WebSocket alone: acknowledged messages, broadcast, reconnects.
import { subscribe } from 'node:diagnostics_channel';
import { createServer } from 'node:http';
import type { AddressInfo, Socket as NetSocket } from 'node:net';
import { Server, type Socket } from 'socket.io';
import { type Socket as ClientSocket, io } from 'socket.io-client';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { cutAndWait } from '../cut.ts';
import { closedLoop, inBatches, machineUs, paced } from '../load.ts';

let server: Server;
const peers: Socket[] = [];
const clients: ClientSocket[] = [];
const sockets = new Set<NetSocket>();
subscribe('net.client.socket', (message) => {
  const { socket } = message as { socket: NetSocket };
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
});

export const verbs = actor({
  async serve(): Promise<string> {
    const http = createServer();
    // No pings within a run: the watchers' bare readers would not answer them.
    server = new Server(http, { transports: ['websocket'], pingInterval: 3_600_000 });
    server.on('connection', (socket) => void peers.push(socket));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(http.address() as AddressInfo).port}`;
  },

  peers(): number {
    return server.engine.clientsCount;
  },

  emitWithAck({ count, seconds, bytes }: { count: number; seconds: number; bytes: number }) {
    const payload = 'x'.repeat(bytes); // as text, so that it is one frame
    return closedLoop(count, seconds, (lane) => peers[lane]!.emitWithAck('command', payload));
  },

  broadcast({ perSecond, seconds, bytes }: { perSecond: number; seconds: number; bytes: number }) {
    const pad = blobOf(bytes).toString();
    return paced(perSecond, seconds, () => void server.emit('sample', { pad, t: machineUs() }));
  },

  async connect({ address, count }: { address: string; count: number }): Promise<void> {
    const connected = await inBatches(count, 50, async () => {
      const client = io(`http://${address}`, { transports: ['websocket'], forceNew: true });
      client.on('command', (payload: string, acknowledge: (answer: string) => void) => acknowledge(payload));
      await new Promise<void>((resolve) => client.once('connect', resolve));
      return client;
    });
    clients.push(...connected);
  },

  /** As devices do: see there. */
  cut: () =>
    cutAndWait(sockets, (isBack) =>
      clients.map((client) => {
        const listener = (): void => isBack(client);
        client.on('connect', listener);
        return () => client.off('connect', listener);
      }),
    ),
});
export type SocketIoVerbs = typeof verbs;
