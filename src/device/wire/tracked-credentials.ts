import type { Socket } from 'node:net';
import type { ChannelCredentials } from '@grpc/grpc-js';

/** Credentials that remember the sockets made with them. */
export interface TrackedCredentials {
  readonly credentials: ChannelCredentials;
  /** Destroys all of their sockets, and those that are still to come. */
  destroySockets(): void;
}

/**
 * Closing a grpc-js channel leaves sockets behind whose other end never speaks: they are still waited for in peace, so
 * each attempt at a silent hub would cost one. The credentials are where a channel hands over its sockets.
 */
export function trackedCredentials(base: ChannelCredentials): TrackedCredentials {
  const sockets = new Set<Socket>();
  let isOver = false;
  const credentials = Object.create(base) as ChannelCredentials;
  credentials._createSecureConnector = (...parameters) => {
    const connector = base._createSecureConnector(...parameters);
    return {
      connect: (socket) => {
        sockets.add(socket);
        socket.once('close', () => sockets.delete(socket));
        if (isOver) socket.destroy();
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  };
  return {
    credentials,
    destroySockets: () => {
      isOver = true;
      for (const socket of sockets) socket.destroy();
    },
  };
}
