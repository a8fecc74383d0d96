import { onTestFinished } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';

/** A real hub on a free port of this machine, until the test ends. */
export async function startHub(): Promise<{ hub: Hub; address: string }> {
  const log = memoryEventLog();
  const hub = new Hub({ log, commands: memoryCommandStore() });
  const server = await serveGrpc({ hub, log, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
  onTestFinished(async () => {
    await server.close({ timeoutMs: 0 });
    await hub.close();
  });
  return { hub, address: server.addresses[0]! };
}

/** Resolves once the client has a live stream. */
export function connected(hub: Hub, clientId: string): Promise<void> {
  return new Promise((resolve) => {
    const letGo = hub.clients.onChange('default', (client) => {
      if (client.id !== clientId || !client.connected) return;
      letGo();
      resolve();
    });
    if (hub.clients.isConnected('default', clientId)) {
      letGo();
      resolve();
    }
  });
}
