import type { Client } from './client.ts';
import type { ClientFilter, ClientInfo, Clients } from './client-info.ts';
import { guarded } from './options.ts';

/** Every client that this hub knows, by tenant and id. Those that are away and have nothing pending are forgotten, oldest first. */
export class ClientTable {
  readonly #byKey = new Map<string, Client>();
  /** Away with nothing pending, oldest first. */
  readonly #away = new Set<Client>();
  readonly #listeners = new Set<{ readonly tenant: string; readonly listener: (client: ClientInfo) => void }>();
  readonly #maxAway: number;
  readonly #create: (tenant: string, id: string, key: string) => Client;

  constructor(maxAway: number, create: (tenant: string, id: string, key: string) => Client) {
    this.#maxAway = maxAway;
    this.#create = create;
  }

  get(tenant: string, clientId: string): Client | undefined {
    return this.#byKey.get(keyOf(tenant, clientId));
  }

  getOrAdd(tenant: string, clientId: string): Client {
    const key = keyOf(tenant, clientId);
    let client = this.#byKey.get(key);
    if (!client) {
      client = this.#create(tenant, clientId, key);
      this.#byKey.set(key, client);
    }
    this.#away.delete(client);
    return client;
  }

  /** Called when a client may have become forgettable. One that was never connected is forgotten at once. */
  released(client: Client): void {
    if (!client.isIdle || this.#byKey.get(client.key) !== client) return;
    this.#away.delete(client);
    if (client.epoch === 0) {
      this.#byKey.delete(client.key);
      return;
    }
    this.#away.add(client);
    while (this.#away.size > this.#maxAway) {
      const oldest = this.#away.values().next().value!;
      this.#away.delete(oldest);
      this.#byKey.delete(oldest.key);
    }
  }

  /** Tells the listeners of its tenant. One that throws does not keep the others from hearing. */
  changed(client: Client): void {
    if (this.#listeners.size === 0) return;
    const info = client.info;
    for (const { tenant, listener } of [...this.#listeners]) if (tenant === client.tenant) listener(info);
  }

  /** The same clients as others may see them. */
  readonly shown: Clients = {
    list: (tenant, filter) => this.#list(tenant, filter),
    get: (tenant, clientId) => {
      const client = this.get(tenant, clientId);
      return client && client.epoch > 0 ? client.info : undefined;
    },
    isConnected: (tenant, clientId) => this.get(tenant, clientId)?.session !== undefined,
    onChange: (tenant, listener) => {
      const entry = { tenant, listener: guarded(listener) };
      this.#listeners.add(entry);
      return () => this.#listeners.delete(entry);
    },
    disconnect: (tenant, clientId, { reason = '', mayReconnect = true } = {}) => {
      const session = this.get(tenant, clientId)?.session;
      const message = reason || 'the hub was asked to disconnect this client';
      session?.end({ reason: 'disconnected', message, mayReconnect });
      return session !== undefined;
    },
  };

  #list(tenant: string, filter: ClientFilter = {}): ClientInfo[] {
    const found: ClientInfo[] = [];
    for (const client of this.#byKey.values()) {
      if (client.tenant !== tenant || (filter.connectedOnly && !client.session)) continue;
      if (client.epoch === 0 || !hasLabels(client, filter.labels)) continue;
      found.push(client.info);
    }
    return found.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  }
}

// Neither tenants nor client ids can hold a slash.
const keyOf = (tenant: string, clientId: string): string => `${tenant}/${clientId}`;

function hasLabels(client: Client, labels: ClientFilter['labels']): boolean {
  return labels === undefined || Object.entries(labels).every(([name, value]) => client.labels[name] === value);
}
