import type { Clock } from '../flow/clock.ts';
import type { ClientDirectory, ClientEntry } from './client-directory.ts';
import type { LocalClient, LocalHub } from './local-hub.ts';
import type { Membership } from './membership.ts';
import { LinkBroken, type NodeLinks } from './node-link.ts';

export interface PresenceOptions {
  readonly hub: LocalHub;
  readonly membership: Membership;
  readonly directory: ClientDirectory;
  readonly links: NodeLinks;
  readonly clock: Clock;
  readonly failed: (cause: unknown) => void;
}

interface ClientQuery {
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly connectedOnly?: boolean | undefined;
}

/** While somebody watches the clients, they are compared with the directory this often: hints may be lost. */
const compareEveryMs = 10_000;

/** The clients of all nodes. */
export class Presence {
  readonly #options: PresenceOptions;
  readonly #watches = new Set<() => void>();

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /** By id. What only a client's node knows (round trip, pending commands) is told for those of this node. */
  async list(tenant: string, { labels, connectedOnly }: ClientQuery = {}): Promise<LocalClient[]> {
    const entries = await this.#options.directory.list(tenant, { heldOnly: connectedOnly });
    const found = entries.filter((entry) => hasLabels(entry, labels));
    await this.#learnNames(found);
    return found.map((entry) => this.#shown(entry));
  }

  async get(tenant: string, clientId: string): Promise<LocalClient | undefined> {
    const { hub, directory, membership, links, failed } = this.#options;
    if (hub.clients.isConnected(tenant, clientId)) return hub.clients.get(tenant, clientId);
    const entry = await directory.get({ tenant, clientId });
    if (!entry) return undefined;
    await this.#learnNames([entry]);
    const shown = this.#shown(entry);
    if (entry.instance === undefined || membership.isOwn(entry.instance)) return shown;
    const node = await membership.node(entry.instance);
    const live = node && (await links.to(node).client({ tenant, clientId }).catch(failed));
    // A node that does not answer leaves what the directory knows.
    if (!live) return shown;
    const { lastSeenAtMs, roundTripMs, pendingCommands } = live;
    return { ...shown, lastSeenAtMs, roundTripMs, pendingCommands };
  }

  onChange(tenant: string, listener: (client: LocalClient) => void): () => void {
    const { directory, clock, failed } = this.#options;
    /** Epoch and state of each client as it was told last. */
    const told = new Map<string, string>();
    let isOver = false;
    let learning: Promise<void> | undefined;
    const tell = (entry: ClientEntry): void => {
      const state = `${entry.epoch} ${entry.instance ?? ''}`;
      if (isOver || told.get(entry.clientId) === state) return;
      told.set(entry.clientId, state);
      if (!learning && this.#isNamed(entry)) listener(this.#shown(entry));
      else {
        // What comes meanwhile waits behind it.
        const mine = (learning ?? Promise.resolve())
          .then(() => this.#learnNames([entry]))
          .then(() => {
            if (learning === mine) learning = undefined;
            if (!isOver) listener(this.#shown(entry));
          });
        learning = mine;
      }
    };
    // What was there at the beginning is not news.
    const isListed = directory.list(tenant).then((entries) => {
      for (const { clientId, epoch, instance } of entries)
        if (!told.has(clientId)) told.set(clientId, `${epoch} ${instance ?? ''}`);
    }, failed);
    const letGoOfHints = directory.onChange(tenant, tell);
    let letGoOfCompare = (): void => undefined;
    const compareSoon = (): void => {
      letGoOfCompare = clock.after(compareEveryMs, () => {
        isListed
          .then(() => directory.list(tenant))
          .then((entries) => entries.forEach(tell))
          .catch(failed)
          .finally(() => isOver || compareSoon());
      });
    };
    compareSoon();
    const release = (): void => {
      isOver = true;
      letGoOfHints();
      letGoOfCompare();
      this.#watches.delete(release);
    };
    this.#watches.add(release);
    return release;
  }

  /** Throws `unavailable` when the node that holds the client cannot be reached. */
  async disconnect(
    tenant: string,
    clientId: string,
    { reason = '', mayReconnect = true }: { reason?: string; mayReconnect?: boolean } = {},
  ): Promise<boolean> {
    const { hub, membership, links } = this.#options;
    const client = { tenant, clientId };
    if (hub.clients.isConnected(tenant, clientId))
      return hub.clients.disconnect(tenant, clientId, { reason, mayReconnect });
    const [holder] = await membership.holders([client]);
    if (!holder || membership.isOwn(holder.instance)) return false;
    const node = await membership.node(holder.instance);
    if (!node) throw new LinkBroken(`the node that holds client ${clientId} is gone`, { mayHaveArrived: false });
    return links.to(node).disconnect(client, { reason, mayReconnect });
  }

  close(): void {
    for (const release of [...this.#watches]) release();
  }

  #isNamed({ instance }: ClientEntry): boolean {
    return instance === undefined || this.#options.membership.isKnown(instance);
  }

  /** A node that has just joined is not known yet. */
  async #learnNames(entries: readonly ClientEntry[]): Promise<void> {
    if (entries.every((entry) => this.#isNamed(entry))) return;
    await this.#options.membership.refreshNodes().catch(this.#options.failed);
  }

  #shown(entry: ClientEntry): LocalClient {
    const { hub, membership } = this.#options;
    const { tenant, clientId, labels, agent, peer, epoch, instance, claimedAtMs, releasedAtMs } = entry;
    const here = hub.clients.get(tenant, clientId);
    if (here && here.epoch >= epoch) return here;
    return {
      id: clientId,
      tenant,
      connected: instance !== undefined,
      labels,
      epoch,
      connectedAtMs: instance === undefined ? undefined : claimedAtMs,
      lastSeenAtMs: releasedAtMs ?? claimedAtMs,
      roundTripMs: undefined,
      pendingCommands: 0,
      node: instance === undefined ? '' : membership.nameOf(instance),
      agent,
      peer,
    };
  }
}

function hasLabels(entry: ClientEntry, labels: ClientQuery['labels']): boolean {
  return labels === undefined || Object.entries(labels).every(([name, value]) => entry.labels[name] === value);
}
