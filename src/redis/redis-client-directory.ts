import { randomInt } from 'node:crypto';
import {
  type ClaimOptions,
  type ClaimOutcome,
  type ClientClaim,
  type ClientDirectory,
  type ClientEntry,
  type ClientKey,
  type Holder,
  keyOf,
  type NodeInfo,
  type NodeLoad,
} from '../cluster/client-directory.ts';
import { HubError } from '../errors.ts';
import type { RedisConnection } from './connection.ts';
import { shardOf, shards } from './keys.ts';
import type { Reply, ScriptQueue } from './script-queue.ts';
import { RedisSubscriber } from './subscriber.ts';

/** Clients that are listed, or looked up, in one operation. */
const page = 256;
/** Where the list of the nodes is. */
const nodesShard = 0;
const everyShard = Array.from({ length: shards }, (_, shard) => shard);

export interface RedisClientDirectoryOptions {
  /** Clients that are away and are still remembered, about. Default: 100,000. */
  readonly rememberedClients?: number | undefined;
}

/**
 * The directory in Redis. A node's lease is kept once in each shard, so that the script that writes for a client can
 * look at it. Time is that of Redis.
 */
export class RedisClientDirectory implements ClientDirectory {
  readonly #connection: RedisConnection;
  readonly #queue: ScriptQueue;
  readonly #rememberedPerShard: number;
  readonly #leaseMs = new Map<string, number>();
  #subscriber: RedisSubscriber | undefined;

  constructor(connection: RedisConnection, queue: ScriptQueue, options: RedisClientDirectoryOptions = {}) {
    this.#connection = connection;
    this.#queue = queue;
    this.#rememberedPerShard = Math.ceil((options.rememberedClients ?? 100_000) / shards);
  }

  async join({ load, ...node }: NodeInfo, leaseMs: number): Promise<void> {
    this.#leaseMs.set(node.instance, leaseMs);
    await Promise.all(everyShard.map((shard) => this.#queue.call(shard, 'join', [node.instance, leaseMs])));
    await this.#queue.call(nodesShard, 'tell', [`${node.instance}+`, JSON.stringify(load)]);
    await this.#queue.call(nodesShard, 'tell', [node.instance, JSON.stringify(node)]);
  }

  async renew(instance: string, load: NodeLoad): Promise<boolean> {
    const leaseMs = this.#leaseMs.get(instance);
    if (leaseMs === undefined) return false;
    const renewed = await Promise.all(everyShard.map((shard) => this.#queue.call(shard, 'renew', [instance, leaseMs])));
    // Where it ended the clients were nobody's for a while: all of them have to be claimed again.
    if (renewed.some((one) => Number(one) !== 1)) return false;
    await this.#queue.call(nodesShard, 'tell', [`${instance}+`, JSON.stringify(load)]);
    return true;
  }

  async leave(instance: string): Promise<void> {
    this.#leaseMs.delete(instance);
    await Promise.all(everyShard.map((shard) => this.#queue.call(shard, 'leave', [instance])));
  }

  async nodes(): Promise<NodeInfo[]> {
    const told = (await this.#queue.call(nodesShard, 'nodes', [])) as Buffer[];
    const nodes: NodeInfo[] = [];
    for (let i = 0; i < told.length; i += 2)
      nodes.push({ ...JSON.parse(String(told[i])), load: JSON.parse(String(told[i + 1])) });
    return nodes.sort((a, b) => compare(a.id, b.id) || compare(a.instance, b.instance));
  }

  async claim(instance: string, client: ClientClaim, options: ClaimOptions = {}): Promise<ClaimOutcome> {
    const { labels, agent, peer } = client;
    const told = JSON.stringify({ labels, agent, peer });
    const token = randomInt(2 ** 47);
    const args = [instance, told, options.afterEpoch ?? 0, options.ifEpoch ?? '', token];
    const [word, epoch, lastEpoch, lastInstance] = (await this.#call(client, 'claim', args)) as Buffer[];
    switch (String(word)) {
      case 'claimed':
        return {
          kind: 'claimed',
          epoch: number(epoch),
          lastEpoch: number(lastEpoch),
          lastInstance: String(lastInstance) || undefined,
        };
      case 'taken':
        return { kind: 'taken', epoch: number(epoch) };
      case 'lapsed':
        return { kind: 'lapsed' };
      default:
        throw new HubError('internal', `the script in Redis answered "${word}" to claim`);
    }
  }

  async release(instance: string, client: ClientKey, epoch: number): Promise<void> {
    await this.#call(client, 'release', [instance, epoch, this.#rememberedPerShard]);
  }

  async holders(clients: readonly ClientKey[]): Promise<(Holder | undefined)[]> {
    const found: (Holder | undefined)[] = new Array(clients.length).fill(undefined);
    const byShard = new Map<number, number[]>();
    for (const [at, client] of clients.entries()) {
      const shard = shardOf(keyOf(client));
      const places = byShard.get(shard);
      if (places) places.push(at);
      else byShard.set(shard, [at]);
    }
    const asked = [...byShard].flatMap(([shard, places]) => {
      const pages: { shard: number; places: number[] }[] = [];
      for (let i = 0; i < places.length; i += page) pages.push({ shard, places: places.slice(i, i + page) });
      return pages;
    });
    await Promise.all(
      asked.map(async ({ shard, places }) => {
        const names = places.map((at) => keyOf(clients[at]!));
        const reply = (await this.#queue.call(shard, 'holders', [names.length, ...names])) as Buffer[];
        for (const [i, at] of places.entries()) {
          const instance = String(reply[2 * i]);
          if (instance !== '') found[at] = { instance, epoch: number(reply[2 * i + 1]) };
        }
      }),
    );
    return found;
  }

  async get(client: ClientKey): Promise<ClientEntry | undefined> {
    return entryFrom(client, await this.#call(client, 'entry', []));
  }

  async list(tenant: string, { heldOnly = false }: { heldOnly?: boolean | undefined } = {}): Promise<ClientEntry[]> {
    const found = (await Promise.all(everyShard.map((shard) => this.#listShard(shard, tenant)))).flat();
    return found
      .filter(({ instance }) => !heldOnly || instance !== undefined)
      .sort((a, b) => compare(a.clientId, b.clientId));
  }

  onTaken(instance: string, listener: (client: ClientKey, epoch: number) => void): () => void {
    return this.#listen(`taken:${instance}`, (message) => {
      const [tenant, clientId, epoch] = JSON.parse(message) as string[];
      listener({ tenant: tenant!, clientId: clientId! }, Number(epoch));
    });
  }

  onChange(tenant: string, listener: (client: ClientEntry) => void): () => void {
    return this.#listen(`changed:${tenant}`, (message) => {
      const [clientId, ...told] = JSON.parse(message) as string[];
      const entry = entryFrom(
        { tenant, clientId: clientId! },
        told.map((text) => Buffer.from(text)),
      );
      if (entry) listener(entry);
    });
  }

  async close(): Promise<void> {
    this.#subscriber?.close();
    this.#subscriber = undefined;
  }

  async #listShard(shard: number, tenant: string): Promise<ClientEntry[]> {
    const found: ClientEntry[] = [];
    for (let after = ''; ; ) {
      const reply = (await this.#queue.call(shard, 'entries', [tenant, after, page])) as Reply[];
      for (let i = 0; i < reply.length; i += 2) {
        after = String(reply[i]);
        const entry = entryFrom({ tenant, clientId: after }, reply[i + 1]!);
        if (entry) found.push(entry);
      }
      if (reply.length < 2 * page) return found;
    }
  }

  #call(client: ClientKey, operation: string, args: readonly (string | number)[]): Promise<Reply> {
    const name = keyOf(client);
    return this.#queue.call(shardOf(name), operation, [name, ...args]);
  }

  #listen(channel: string, listener: (message: string) => void): () => void {
    this.#subscriber ??= new RedisSubscriber(this.#connection);
    return this.#subscriber.subscribe(`${this.#connection.prefix}:${channel}`, listener);
  }
}

/** `told, epoch, instance, claimed at, released at`; nothing when it is not known. */
function entryFrom({ tenant, clientId }: ClientKey, reply: Reply): ClientEntry | undefined {
  if (!Array.isArray(reply) || reply.length === 0) return undefined;
  const [told, epoch, instance, claimedAt, releasedAt] = reply.map(String);
  const { labels, agent, peer } = JSON.parse(told!) as Pick<ClientEntry, 'labels' | 'agent' | 'peer'>;
  return {
    tenant,
    clientId,
    labels,
    agent,
    peer,
    epoch: Number(epoch),
    instance: instance || undefined,
    claimedAtMs: Number(claimedAt),
    releasedAtMs: releasedAt ? Number(releasedAt) : undefined,
  };
}

const number = (text: Buffer | undefined): number => Number(String(text));
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
