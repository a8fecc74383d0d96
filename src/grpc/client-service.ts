import { requireScope } from '../auth/access.ts';
import { HubError } from '../errors.ts';
import type { ClientFilter, ClientInfo, ShownClients } from '../hub/client-info.ts';
import { checkClientId, checkLabels } from '../protocol/checks.ts';
import {
  type Client,
  ClientServiceDefinition,
  type WatchClientsResponse,
} from '../protocol/gen/signalbox/v1/client.ts';
import { type GrpcService, grpcService } from './service.ts';

/** Tells which clients there are. Needs the scope `clients:read`; disconnecting needs `admin`. */
export function clientService(clients: ShownClients): GrpcService {
  return grpcService(ClientServiceDefinition, {
    async listClients(request, { principal }) {
      requireScope(principal, 'clients:read');
      checkLabels(request.labels);
      const filter = { labels: request.labels, connectedOnly: request.connectedOnly };
      return { clients: (await clients.list(principal.tenant, filter)).map(clientToProto) };
    },

    async getClient(request, { principal }) {
      requireScope(principal, 'clients:read');
      checkClientId(request.clientId);
      const client = await clients.get(principal.tenant, request.clientId);
      if (client === undefined) throw new HubError('not-found', `client ${request.clientId} is not known`);
      return { client: clientToProto(client) };
    },

    watchClients(request, { principal, signal }) {
      requireScope(principal, 'clients:read');
      checkLabels(request.labels);
      return watchClients(clients, principal.tenant, { labels: request.labels }, signal);
    },

    async disconnectClient(request, { principal }) {
      requireScope(principal, 'admin');
      checkClientId(request.clientId);
      if (request.reason.length > 1_024)
        throw new HubError('invalid-argument', `reason has ${request.reason.length} characters, the limit is 1024`);
      const wasConnected = await clients.disconnect(principal.tenant, request.clientId, {
        reason: request.reason || `disconnected by ${principal.subject}`,
        mayReconnect: request.mayReconnect,
      });
      return { wasConnected };
    },
  });
}

/**
 * The clients as they are, then every change. What a slow reader has not taken is kept once per client, so that it
 * gets the newest state of each and never a queue of old ones.
 */
function watchClients(
  clients: ShownClients,
  tenant: string,
  filter: ClientFilter,
  signal: AbortSignal,
): AsyncIterable<WatchClientsResponse> {
  let listing: readonly ClientInfo[] | undefined;
  let failure: { readonly error: unknown } | undefined;
  const changed = new Map<string, ClientInfo>();
  let listed = 0;
  let isOver = false;
  let wake: (() => void) | undefined;

  const release = clients.onChange(tenant, (client) => {
    if (!hasLabels(client, filter)) return;
    changed.set(client.id, client);
    wake?.();
  });
  // What changes while it is being listed comes after it, once more.
  Promise.resolve(clients.list(tenant, filter)).then(
    (listed) => {
      listing = listed;
      wake?.();
    },
    (error: unknown) => {
      failure = { error };
      wake?.();
    },
  );
  const end = (): void => {
    isOver = true;
    release();
    wake?.();
  };
  signal.addEventListener('abort', end, { once: true });

  const take = (): WatchClientsResponse | undefined => {
    if (!listing) return undefined;
    const client = listing[listed];
    // Nobody there is also something to be caught up with.
    if (client !== undefined || (listed === 0 && listing.length === 0)) {
      listed++;
      return { client: client && clientToProto(client), caughtUp: listed >= listing.length };
    }
    for (const [id, newest] of changed) {
      changed.delete(id);
      return { client: clientToProto(newest), caughtUp: false };
    }
    return undefined;
  };
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        for (;;) {
          if (failure) throw failure.error;
          if (isOver) return { value: undefined, done: true };
          const value = take();
          if (value !== undefined) return { value, done: false };
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      },
      async return() {
        end();
        return { value: undefined, done: true };
      },
    }),
  };
}

function hasLabels(client: ClientInfo, filter: ClientFilter): boolean {
  return Object.entries(filter.labels ?? {}).every(([key, value]) => client.labels[key] === value);
}

export function clientToProto(client: ClientInfo): Client {
  return {
    id: client.id,
    connected: client.connected,
    labels: { ...client.labels },
    epoch: client.epoch,
    connectedAtMs: client.connectedAtMs ?? 0,
    lastSeenAtMs: client.lastSeenAtMs ?? 0,
    roundTripMs: client.roundTripMs,
    pendingCommands: client.pendingCommands,
    node: client.node,
    agent: client.agent,
    peer: client.peer,
  };
}
