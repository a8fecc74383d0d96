import type { Clock } from '../flow/clock.ts';
import { type ClientDirectory, type ClientKey, keyOf, type NodeInfo } from './client-directory.ts';
import type { LocalHub } from './local-hub.ts';
import type { Membership } from './membership.ts';

/** Where a client is. */
export type Place =
  | { readonly kind: 'here' }
  | { readonly kind: 'node'; readonly node: NodeInfo; readonly epoch: number }
  | { readonly kind: 'nobody' };

export interface WhereaboutsOptions {
  readonly hub: LocalHub;
  readonly membership: Membership;
  readonly directory: ClientDirectory;
  readonly clock: Clock;
  readonly failed: (cause: unknown) => void;
}

const maxRemembered = 100_000;
const lookEveryMs = 1000;

interface Followed {
  readonly client: ClientKey;
  readonly listeners: Set<() => void>;
}

/** Knows which node holds which client: asks the directory for many at once, and remembers what it said. */
export class Whereabouts {
  readonly #options: WhereaboutsOptions;
  readonly #remembered = new Map<string, Extract<Place, { kind: 'node' }>>();
  #asked: { clients: ClientKey[]; answer: Promise<Place[]> } | undefined;
  readonly #followed = new Map<string, Followed>();
  /** By tenant: its followed clients, and the release of its hints. */
  readonly #hints = new Map<string, { count: number; letGo: () => void }>();
  #letGoOfLook: (() => void) | undefined;
  #isClosed = false;

  constructor(options: WhereaboutsOptions) {
    this.#options = options;
  }

  isHere({ tenant, clientId }: ClientKey): boolean {
    return this.#options.hub.clients.isConnected(tenant, clientId);
  }

  /** The node that held it when it was last asked for. It may have moved: the node says so. */
  remembered(client: ClientKey): Extract<Place, { kind: 'node' }> | undefined {
    return this.#remembered.get(keyOf(client));
  }

  forget(client: ClientKey): void {
    this.#remembered.delete(keyOf(client));
  }

  /** Rejects with `unavailable` when the directory cannot be reached. */
  async find(client: ClientKey): Promise<Place> {
    if (this.isHere(client)) return { kind: 'here' };
    const remembered = this.remembered(client);
    if (remembered) return remembered;
    // Those who ask in one turn of the event loop go together.
    this.#asked ??= this.#askSoon();
    const { clients, answer } = this.#asked;
    const at = clients.push({ tenant: client.tenant, clientId: client.clientId }) - 1;
    return (await answer)[at]!;
  }

  /** Calls back when another node has claimed the client. Returns the release. */
  follow(client: ClientKey, listener: () => void): () => void {
    const key = keyOf(client);
    let followed = this.#followed.get(key);
    if (!followed) {
      const { tenant, clientId } = client;
      followed = { client: { tenant, clientId }, listeners: new Set() };
      this.#followed.set(key, followed);
      this.#hearOf(tenant);
    }
    const { listeners } = followed;
    listeners.add(listener);
    this.#lookSoon();
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0 || this.#followed.get(key)?.listeners !== listeners) return;
      this.#followed.delete(key);
      this.#unhear(client.tenant);
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#letGoOfLook?.();
    for (const { letGo } of this.#hints.values()) letGo();
    this.#hints.clear();
    this.#followed.clear();
  }

  #askSoon() {
    const clients: ClientKey[] = [];
    const answer = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      this.#asked = undefined;
      return this.#ask(clients);
    });
    return { clients, answer };
  }

  async #ask(clients: readonly ClientKey[]): Promise<Place[]> {
    const { membership, directory } = this.#options;
    const holders = await directory.holders(clients);
    return Promise.all(
      holders.map(async (holder, at): Promise<Place> => {
        const client = clients[at]!;
        if (this.isHere(client)) return { kind: 'here' };
        // What is ours and not here has just left.
        if (!holder || membership.isOwn(holder.instance)) return { kind: 'nobody' };
        const node = await membership.node(holder.instance);
        if (!node) return { kind: 'nobody' };
        const place = { kind: 'node', node, epoch: holder.epoch } as const;
        this.#remember(client, place);
        return place;
      }),
    );
  }

  #remember(client: ClientKey, place: Extract<Place, { kind: 'node' }>): void {
    if (this.#remembered.size >= maxRemembered) {
      const oldest = this.#remembered.keys().next().value!;
      this.#remembered.delete(oldest);
    }
    this.#remembered.set(keyOf(client), place);
  }

  #hearOf(tenant: string): void {
    const hints = this.#hints.get(tenant);
    if (hints) {
      hints.count++;
      return;
    }
    const { directory, membership } = this.#options;
    const letGo = directory.onChange(tenant, (entry) => {
      if (entry.instance !== undefined && !membership.isOwn(entry.instance)) this.#isElsewhere(keyOf(entry));
    });
    this.#hints.set(tenant, { count: 1, letGo });
  }

  #unhear(tenant: string): void {
    const hints = this.#hints.get(tenant);
    if (!hints || --hints.count > 0) return;
    this.#hints.delete(tenant);
    hints.letGo();
  }

  #isElsewhere(key: string): void {
    for (const listener of [...(this.#followed.get(key)?.listeners ?? [])]) listener();
  }

  #lookSoon(): void {
    if (this.#isClosed || this.#followed.size === 0) return;
    this.#letGoOfLook ??= this.#options.clock.after(lookEveryMs, () => {
      this.#look()
        .catch(this.#options.failed)
        .finally(() => {
          this.#letGoOfLook = undefined;
          this.#lookSoon();
        });
    });
  }

  /** Hints may be lost. */
  async #look(): Promise<void> {
    const away = [...this.#followed.values()].map(({ client }) => client).filter((client) => !this.isHere(client));
    if (away.length === 0) return;
    const isElsewhere = await this.#options.membership.heldElsewhere(away);
    for (const [at, client] of away.entries()) if (isElsewhere[at]) this.#isElsewhere(keyOf(client));
  }
}
