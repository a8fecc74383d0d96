import { type Clock, systemClock } from '../flow/clock.ts';
import type {
  ClaimOptions,
  ClaimOutcome,
  ClientClaim,
  ClientDirectory,
  ClientEntry,
  ClientKey,
  Holder,
  NodeInfo,
  NodeLoad,
} from './client-directory.ts';
import { keyOf } from './client-directory.ts';

export interface MemoryClientDirectoryOptions {
  readonly clock?: Clock | undefined;
  /** Clients that are away and are still remembered. Default: 10,000. */
  readonly rememberedClients?: number | undefined;
}

/** The directory of hubs in one process. */
export interface InProcessDirectory extends ClientDirectory {
  /** Who holds a client, without waiting: for a store in the same process that fences its writers. */
  holderOf(client: ClientKey): Holder | undefined;
}

/** A directory for several hubs in one process. */
export function memoryClientDirectory(options: MemoryClientDirectoryOptions = {}): InProcessDirectory {
  return new MemoryClientDirectory(options);
}

interface Seat {
  node: NodeInfo;
  readonly leaseMs: number;
  /** Monotonic. */
  endsAt: number;
}

/** `instance` is the node that claimed it last, also after a release. */
type Claimed = ClientEntry & { readonly instance: string };

class MemoryClientDirectory implements InProcessDirectory {
  readonly #clock: Clock;
  readonly #rememberedClients: number;
  readonly #seats = new Map<string, Seat>();
  readonly #entries = new Map<string, Claimed>();
  /** Keys of released clients, the longest away first. */
  readonly #away = new Set<string>();
  readonly #taken = new Set<{ instance: string; listener: (client: ClientKey, epoch: number) => void }>();
  readonly #changed = new Set<{ tenant: string; listener: (client: ClientEntry) => void }>();

  constructor({ clock = systemClock, rememberedClients = 10_000 }: MemoryClientDirectoryOptions) {
    this.#clock = clock;
    this.#rememberedClients = rememberedClients;
  }

  async join(node: NodeInfo, leaseMs: number): Promise<void> {
    this.#seats.set(node.instance, { node, leaseMs, endsAt: this.#clock.monotonic() + leaseMs });
  }

  async renew(instance: string, load: NodeLoad): Promise<boolean> {
    const seat = this.#seat(instance);
    if (!seat) return false;
    seat.node = { ...seat.node, load };
    seat.endsAt = this.#clock.monotonic() + seat.leaseMs;
    return true;
  }

  async leave(instance: string): Promise<void> {
    this.#seats.delete(instance);
  }

  async nodes(): Promise<NodeInfo[]> {
    return [...this.#seats.keys()]
      .flatMap((instance) => this.#seat(instance)?.node ?? [])
      .sort((a, b) => compare(a.id, b.id) || compare(a.instance, b.instance));
  }

  async claim(instance: string, client: ClientClaim, options: ClaimOptions = {}): Promise<ClaimOutcome> {
    if (!this.#seat(instance)) return { kind: 'lapsed' };
    const key = keyOf(client);
    const old = this.#entries.get(key);
    const lastEpoch = old?.epoch ?? 0;
    if (options.ifEpoch !== undefined && options.ifEpoch !== lastEpoch) return { kind: 'taken', epoch: lastEpoch };
    const lastInstance = old && this.#seat(old.instance) ? old.instance : undefined;
    const isTakenOver = old !== undefined && old.releasedAtMs === undefined && lastInstance !== undefined;
    const claimedAtMs = this.#clock.now();
    const epoch = Math.max(lastEpoch + 1, (options.afterEpoch ?? 0) + 1, claimedAtMs);
    const { tenant, clientId, labels, agent, peer } = client;
    const entry: Claimed = {
      tenant,
      clientId,
      labels,
      agent,
      peer,
      epoch,
      instance,
      claimedAtMs,
      releasedAtMs: undefined,
    };
    this.#entries.set(key, entry);
    this.#away.delete(key);
    if (isTakenOver && lastInstance !== instance)
      this.#hint(() => {
        for (const one of this.#taken) if (one.instance === lastInstance) one.listener({ tenant, clientId }, epoch);
      });
    this.#tellChange(entry);
    return { kind: 'claimed', epoch, lastEpoch, lastInstance };
  }

  async release(instance: string, client: ClientKey, epoch: number): Promise<void> {
    const key = keyOf(client);
    const entry = this.#entries.get(key);
    if (entry?.instance !== instance || entry.epoch !== epoch || entry.releasedAtMs !== undefined) return;
    const released = { ...entry, releasedAtMs: this.#clock.now() };
    this.#entries.set(key, released);
    this.#away.add(key);
    if (this.#away.size > this.#rememberedClients) {
      const oldest = this.#away.values().next().value!;
      this.#away.delete(oldest);
      this.#entries.delete(oldest);
    }
    this.#tellChange(released);
  }

  async holders(clients: readonly ClientKey[]): Promise<(Holder | undefined)[]> {
    return clients.map((client) => this.holderOf(client));
  }

  holderOf(client: ClientKey): Holder | undefined {
    const entry = this.#entries.get(keyOf(client));
    return entry && this.#holderOf(entry);
  }

  async get(client: ClientKey): Promise<ClientEntry | undefined> {
    const entry = this.#entries.get(keyOf(client));
    return entry && this.#shown(entry);
  }

  async list(tenant: string, { heldOnly = false }: { heldOnly?: boolean | undefined } = {}): Promise<ClientEntry[]> {
    return [...this.#entries.values()]
      .filter((entry) => entry.tenant === tenant)
      .map((entry) => this.#shown(entry))
      .filter(({ instance }) => !heldOnly || instance !== undefined)
      .sort((a, b) => compare(a.clientId, b.clientId));
  }

  onTaken(instance: string, listener: (client: ClientKey, epoch: number) => void): () => void {
    const entry = { instance, listener };
    this.#taken.add(entry);
    return () => this.#taken.delete(entry);
  }

  onChange(tenant: string, listener: (client: ClientEntry) => void): () => void {
    const entry = { tenant, listener };
    this.#changed.add(entry);
    return () => this.#changed.delete(entry);
  }

  async close(): Promise<void> {
    this.#taken.clear();
    this.#changed.clear();
  }

  #seat(instance: string): Seat | undefined {
    const seat = this.#seats.get(instance);
    if (!seat || seat.endsAt > this.#clock.monotonic()) return seat;
    this.#seats.delete(instance);
    return undefined;
  }

  #holderOf({ instance, epoch, releasedAtMs }: Claimed): Holder | undefined {
    return releasedAtMs === undefined && this.#seat(instance) ? { instance, epoch } : undefined;
  }

  /** What a dead node held is shown as away. */
  #shown(entry: Claimed): ClientEntry {
    return this.#holderOf(entry) ? entry : { ...entry, instance: undefined };
  }

  #tellChange(entry: Claimed): void {
    if (this.#changed.size === 0) return;
    const shown = this.#shown(entry);
    this.#hint(() => {
      for (const { tenant, listener } of this.#changed) if (tenant === shown.tenant) listener(shown);
    });
  }

  /** Never from within the call that it is about. */
  #hint(tell: () => void): void {
    queueMicrotask(tell);
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
