import { HubError, toHubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { ClientClaim, ClientDirectory, ClientKey, Holder, NodeInfo } from './client-directory.ts';
import { keyOf } from './client-directory.ts';
import type { ClusterFact } from './facts.ts';
import type { LocalHub } from './local-hub.ts';
import type { MovedCommand, NodeLinks } from './node-link.ts';

export interface MembershipOptions {
  readonly directory: ClientDirectory;
  readonly links: NodeLinks;
  /** Name of this node, for people. */
  readonly id: string;
  readonly version: string;
  /** What this node holds is nobody's after it was not heard of for this many ms. Default: 10,000. */
  readonly leaseMs?: number | undefined;
  /** Default: a third of the lease. */
  readonly renewEveryMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  readonly observe?: ((fact: ClusterFact) => void) | undefined;
}

/** The clients of a second's look whether they were lost without a word: a thousand devices take two seconds. */
const checkedPerSecond = 500;
/** Claims made at once after the lease had ended. */
const claimsAtOnce = 256;
/** The node that had a client until now has this many ms to give up what it has in hand. */
const yieldWithinMs = 1000;
const checkEveryMs = 1000;

/** This node's place in the cluster: its lease, and its claims on clients. */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #clock: Clock;
  readonly #observe: (fact: ClusterFact) => void;
  readonly #renewEveryMs: number;
  readonly #startedAtMs: number;
  #instance = '';
  /** Every instance that this node was, so that it never asks itself. */
  readonly #own = new Set<string>();
  #hub: LocalHub | undefined;
  readonly #nodes = new Map<string, NodeInfo>();
  #nodesAsked: Promise<void> | undefined;
  /** Releases that the directory has not heard yet, by client. */
  readonly #unreleased = new Map<string, { client: ClientKey; epoch: number }>();
  #joining: Promise<void> | undefined;
  #letGoOfHints: () => void = () => undefined;
  #letGoOfRenewal: () => void = () => undefined;
  #letGoOfChecks: () => void = () => undefined;
  #checkFrom = 0;
  #isClosed = false;

  #address = '';
  readonly #joined = Promise.withResolvers<void>();

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#observe = options.observe ?? (() => undefined);
    this.#renewEveryMs = options.renewEveryMs ?? Math.ceil(this.leaseMs / 3);
    this.#startedAtMs = this.#clock.now();
  }

  /**
   * Joins the cluster; the other nodes reach this one at `address` (`host:port`). Claims wait until then. Rejects with
   * `unavailable` when the directory cannot be reached.
   */
  async join(address: string): Promise<void> {
    this.#address = address;
    await this.#join(false);
    this.#joined.resolve();
    this.#scheduleRenewal();
    this.#scheduleCheck();
  }

  get instance(): string {
    return this.#instance;
  }

  get id(): string {
    return this.#options.id;
  }

  get leaseMs(): number {
    return this.#options.leaseMs ?? 10_000;
  }

  /** Tells whose clients it is about. To be called once, before the first claim. */
  attach(hub: LocalHub): void {
    this.#hub = hub;
  }

  isOwn(instance: string): boolean {
    return this.#own.has(instance);
  }

  /** What the hub asks at each hello. The claim is told before what is handed over with it. */
  async claim(client: ClientClaim, afterEpoch: number) {
    await this.#joined.promise;
    let outcome = await this.#options.directory.claim(this.#instance, client, { afterEpoch });
    if (outcome.kind === 'lapsed') {
      await this.#join(true);
      outcome = await this.#options.directory.claim(this.#instance, client, { afterEpoch });
    }
    if (outcome.kind !== 'claimed') throw new HubError('unavailable', 'this node has no place in the cluster now');
    this.#unreleased.delete(keyOf(client));
    const { epoch, lastEpoch, lastInstance } = outcome;
    const isMoved = lastInstance !== undefined && !this.isOwn(lastInstance);
    return { epoch, lastEpoch, handed: isMoved ? this.#askFor(client, epoch, lastInstance) : Promise.resolve([]) };
  }

  /** The client has left. Told until the directory has heard it. */
  release(tenant: string, clientId: string, epoch: number): void {
    const client = { tenant, clientId };
    const key = keyOf(client);
    this.#unreleased.set(key, { client, epoch });
    this.#release(key, client, epoch);
  }

  async heldElsewhere(clients: readonly ClientKey[]): Promise<boolean[]> {
    const holders = await this.#options.directory.holders(clients);
    return holders.map((holder) => holder !== undefined && !this.isOwn(holder.instance));
  }

  /** Who holds these, of all nodes. */
  holders(clients: readonly ClientKey[]): Promise<(Holder | undefined)[]> {
    return this.#options.directory.holders(clients);
  }

  /** The node with this instance, if its lease lives. */
  async node(instance: string): Promise<NodeInfo | undefined> {
    const known = this.#nodes.get(instance);
    if (known) return known;
    await this.refreshNodes();
    return this.#nodes.get(instance);
  }

  /** The other nodes, as they were known at the newest renewal. */
  get peers(): NodeInfo[] {
    return [...this.#nodes.values()].filter(({ instance }) => !this.isOwn(instance));
  }

  /** All nodes as they were known at the newest look, this one among them; by id. */
  get all(): NodeInfo[] {
    return [...this.#nodes.values()];
  }

  isKnown(instance: string): boolean {
    return this.#nodes.has(instance);
  }

  /** Name of a node for people; its instance where that is all there is. */
  nameOf(instance: string): string {
    return this.#nodes.get(instance)?.id ?? instance;
  }

  /** Asks the directory which nodes there are; those who ask at the same time share the answer. */
  refreshNodes(): Promise<void> {
    this.#nodesAsked ??= this.#readNodes().finally(() => {
      this.#nodesAsked = undefined;
    });
    return this.#nodesAsked;
  }

  /** Tells the others at once what this node carries: that it drains, above all. */
  async renew(): Promise<void> {
    const { directory } = this.#options;
    if (!(await directory.renew(this.#instance, this.#load()))) await this.#rejoin();
  }

  /** Leaves the cluster: what was held is nobody's. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#letGoOfRenewal();
    this.#letGoOfChecks();
    this.#letGoOfHints();
    if (this.#instance !== '')
      await this.#options.directory.leave(this.#instance).catch((cause: unknown) => this.#renewFailed(cause));
  }

  #load() {
    return { sessions: this.#hub?.load.sessions ?? 0, isDraining: this.#hub?.isDraining ?? false };
  }

  /** One at a time: who comes while it is under way waits for the same. */
  #join(again: boolean): Promise<void> {
    this.#joining ??= this.#begin(again).finally(() => {
      this.#joining = undefined;
    });
    return this.#joining;
  }

  async #begin(again: boolean): Promise<void> {
    const { directory, id, version } = this.#options;
    const address = this.#address;
    const instance = uniqueId();
    const node = { id, instance, address, version, startedAtMs: this.#startedAtMs, load: this.#load() };
    await directory.join(node, this.leaseMs);
    this.#instance = instance;
    this.#own.add(instance);
    this.#nodes.set(instance, node);
    this.#letGoOfHints();
    this.#letGoOfHints = directory.onTaken(instance, ({ tenant, clientId }, epoch) =>
      this.#hub?.lost(tenant, clientId, epoch),
    );
    this.#observe({ kind: 'node-joined', node: id, instance, address, again });
  }

  async #readNodes(): Promise<void> {
    const nodes = await this.#options.directory.nodes();
    this.#nodes.clear();
    for (const node of nodes) this.#nodes.set(node.instance, node);
    this.#options.links.keepOnly(new Set(this.#nodes.keys()));
  }

  #scheduleRenewal(): void {
    if (this.#isClosed) return;
    this.#letGoOfRenewal = this.#clock.after(this.#renewEveryMs, () => {
      this.renew()
        .then(() => this.refreshNodes())
        .catch((cause: unknown) => this.#renewFailed(cause))
        .finally(() => this.#scheduleRenewal());
    });
  }

  #renewFailed(cause: unknown): void {
    this.#observe({ kind: 'node-renew-failed', message: toHubError(cause).message, cause });
  }

  /** The lease had ended. Streams that nobody else has claimed go on, under new claims. */
  async #rejoin(): Promise<void> {
    if (this.#isClosed) return;
    const lapsed = this.#instance;
    await this.#join(true);
    const held = this.#hub?.held() ?? [];
    let lost = 0;
    for (let at = 0; at < held.length; at += claimsAtOnce) {
      const outcomes = await Promise.all(held.slice(at, at + claimsAtOnce).map((client) => this.#claimAgain(client)));
      lost += outcomes.filter((isHeld) => !isHeld).length;
    }
    this.#observe({ kind: 'node-lapsed', instance: lapsed, held: held.length, lost });
  }

  /** Claims what is held here already, unless another node has claimed it since. True: it is ours. */
  async #claimAgain(client: ClientClaim & { readonly epoch: number }): Promise<boolean> {
    const { directory } = this.#options;
    const { tenant, clientId, epoch } = client;
    let outcome = await directory.claim(this.#instance, client, { ifEpoch: epoch });
    // Nothing is known of it: the directory has lost what it knew.
    if (outcome.kind === 'taken' && outcome.epoch < epoch)
      outcome = await directory.claim(this.#instance, client, { afterEpoch: epoch });
    if (outcome.kind === 'claimed') this.#hub?.renewed(tenant, clientId, outcome.epoch);
    else if (outcome.kind === 'taken') this.#hub?.lost(tenant, clientId, outcome.epoch);
    return outcome.kind === 'claimed';
  }

  #scheduleCheck(): void {
    if (this.#isClosed) return;
    this.#letGoOfChecks = this.#clock.after(checkEveryMs, () => {
      this.#check()
        .catch((cause: unknown) => this.#renewFailed(cause))
        .finally(() => this.#scheduleCheck());
    });
  }

  /** Hints may be lost: a few clients are looked up at a time, all of them in turn. */
  async #check(): Promise<void> {
    for (const [key, { client, epoch }] of this.#unreleased) this.#release(key, client, epoch);
    const some = this.#hub?.held(this.#checkFrom, checkedPerSecond) ?? [];
    this.#checkFrom = some.length < checkedPerSecond ? 0 : this.#checkFrom + some.length;
    if (some.length === 0) return;
    const holders = await this.#options.directory.holders(some);
    const instance = this.#instance;
    for (const [at, client] of some.entries()) {
      const holder = holders[at];
      if (holder?.instance === instance && holder.epoch >= client.epoch) continue;
      if (holder && !this.isOwn(holder.instance)) this.#hub?.lost(client.tenant, client.clientId, holder.epoch);
      // It may have left meanwhile, or come again.
      else if (this.#hub?.clients.get(client.tenant, client.clientId)?.epoch === client.epoch)
        await this.#claimAgain(client);
    }
  }

  #release(key: string, client: ClientKey, epoch: number): void {
    this.#options.directory.release(this.#instance, client, epoch).then(
      () => {
        if (this.#unreleased.get(key)?.epoch === epoch) this.#unreleased.delete(key);
      },
      (cause: unknown) => this.#renewFailed(cause),
    );
  }

  /** The live commands that the last node has on their way to the client. One that does not answer keeps them. */
  async #askFor(
    { tenant, clientId }: ClientClaim,
    epoch: number,
    fromInstance: string,
  ): Promise<readonly MovedCommand[]> {
    let letGo = (): void => undefined;
    try {
      const node = await this.node(fromInstance);
      if (!node) return [];
      const late = new Promise<never>((_, reject) => {
        const message = `node ${node.id} did not answer within ${yieldWithinMs} ms`;
        letGo = this.#clock.after(yieldWithinMs, () => reject(new HubError('unavailable', message)));
      });
      const asked = this.#options.links.to(node).yield({ tenant, clientId }, epoch);
      const handed: readonly MovedCommand[] = await Promise.race([asked, late]);
      this.#observe({ kind: 'client-moved', tenant, clientId, fromInstance, handed: handed.length });
      return handed;
    } catch (error) {
      const { message } = toHubError(error);
      this.#observe({ kind: 'yield-failed', tenant, clientId, fromInstance, message });
      return [];
    } finally {
      letGo();
    }
  }
}
