import type { Client } from './client.ts';
import type { ClientFilter, ClientInfo, Clients } from './client-info.ts';
import { guarded } from './options.ts';

/** Every client that this hub knows, by tenant and id. Those that are away and have nothing pending are forgotten, oldest first. */
export class ClientTable {
  readonly #byTenant = new Map<string, Map<string, Client>>();
  #last: Client | undefined;
  /** Away with nothing pending, oldest first. */
  readonly #away = new Set<Client>();
  readonly #listeners = new Set<{ readonly tenant: string; readonly listener: (client: ClientInfo) => void }>();
  readonly #maxAway: number;
  readonly #create: (tenant: string, id: string) => Client;

  constructor(maxAway: number, create: (tenant: string, id: string) => Client) {
    this.#maxAway = maxAway;
    this.#create = create;
  }

  get(tenant: string, clientId: string): Client | undefined {
    // Most often the one that was asked for just now: a result's client gets its next command.
    const last = this.#last;
    if (last !== undefined && last.id === clientId && last.tenant === tenant) return last;
    this.#last = this.#byTenant.get(tenant)?.get(clientId);
    return this.#last;
  }

  getOrAdd(tenant: string, clientId: string): Client {
    let clients = this.#byTenant.get(tenant);
    if (!clients) {
      clients = new Map();
      this.#byTenant.set(tenant, clients);
    }
    let client = clients.get(clientId);
    if (!client) {
      client = this.#create(tenant, clientId);
      clients.set(clientId, client);
    }
    this.#away.delete(client);
    return client;
  }

  /** Called when a client may have become forgettable. One that was never connected is forgotten at once. */
  released(client: Client): void {
    if (!client.isIdle || this.get(client.tenant, client.id) !== client) return;
    this.#away.delete(client);
    if (client.epoch === 0) {
      this.#forget(client);
      return;
    }
    this.#away.add(client);
    while (this.#away.size > this.#maxAway) {
      const oldest = this.#away.values().next().value!;
      this.#away.delete(oldest);
      this.#forget(oldest);
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

  #forget({ tenant, id }: Client): void {
    this.#last = undefined;
    const clients = this.#byTenant.get(tenant);
    if (clients?.delete(id) && clients.size === 0) this.#byTenant.delete(tenant);
  }

  #list(tenant: string, filter: ClientFilter = {}): ClientInfo[] {
    const found: ClientInfo[] = [];
    for (const client of this.#byTenant.get(tenant)?.values() ?? []) {
      if (filter.connectedOnly && !client.session) continue;
      if (client.epoch === 0 || !hasLabels(client, filter.labels)) continue;
      found.push(client.info);
    }
    return found.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  }
}

function hasLabels(client: Client, labels: ClientFilter['labels']): boolean {
  return labels === undefined || Object.entries(labels).every(([name, value]) => client.labels[name] === value);
}
