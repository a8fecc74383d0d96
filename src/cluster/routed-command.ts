import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { type Command, type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import type { TellOptions } from '../protocol/command-transport.ts';
import { FreshUpdates } from '../protocol/fresh-updates.ts';
import type { NodeInfo } from './client-directory.ts';
import type { ClusterFact } from './facts.ts';
import type { LocalHub } from './local-hub.ts';
import type { Membership } from './membership.ts';
import { LinkBroken, type NodeLinks } from './node-link.ts';
import { Patience } from './patience.ts';
import type { Place, Whereabouts } from './whereabouts.ts';

/** What all commands of one node share on their way to others. */
export interface Crossroads {
  readonly hub: LocalHub;
  readonly membership: Membership;
  readonly whereabouts: Whereabouts;
  readonly links: NodeLinks;
  readonly clock: Clock;
  readonly random: () => number;
  readonly observe: (fact: ClusterFact) => void;
  cancel(command: Command, reason: string): Promise<CommandUpdate>;
}

/** A command that nobody knows is asked for again for so long: it may be on its way from one node to the next. */
const movingMs = 2000;
/** Until a cancel is heard it is asked for again after this many ms. */
const cancelEveryMs = 250;
/** Looks in a row that find another holder each time. */
const maxMoves = 16;

type Source = AsyncIterator<CommandUpdate>;

/** Where a command was given, and may be known. */
export type Home = 'here' | string;

/**
 * One command of a caller at this node, wherever its client is: goes where the client is, and follows when it moves.
 * An iterator of updates, each told once, that always ends.
 */
export class RoutedCommand implements AsyncIterator<CommandUpdate> {
  readonly #roads: Crossroads;
  readonly #command: Command;
  readonly #tell: TellOptions;
  readonly #fresh: FreshUpdates;
  readonly #patience: Patience;
  #source: Source | undefined;
  #mode: 'send' | 'watch' = 'send';
  /** Id of the command in the hub; another one where an idempotency key found it. */
  #commandId: string;
  /** Where it was heard of last, or may have arrived. */
  #home: Home | undefined;
  /** Its home could not be reached just now. */
  #isHomeSilent = false;
  #place: Place | undefined;
  #wasAccepted = false;
  /** Nodes that said they do not know it, since it was last heard of. */
  readonly #deniedBy = new Set<Home>();
  #missingSince: number | undefined;
  #moves = 0;
  #isOver = false;
  #isCancelling = false;
  #letGoOfFollowing: (() => void) | undefined;

  constructor(roads: Crossroads, command: Command, tell: TellOptions = {}) {
    this.#roads = roads;
    this.#command = command;
    this.#commandId = command.id;
    this.#tell = tell;
    this.#fresh = new FreshUpdates(tell.brief);
    this.#patience = new Patience(command, roads.clock, roads.random);
    tell.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Reads a command that was accepted before. */
  static watching(roads: Crossroads, command: Command, commandId: string, home: Home): RoutedCommand {
    const routed = new RoutedCommand(roads, command);
    routed.#home = home;
    routed.#commandId = commandId;
    routed.#wasAccepted = true;
    routed.#mode = 'watch';
    return routed;
  }

  /** Goes on with a command that was sent by a shortcut, to this place, and failed there. */
  static after(roads: Crossroads, command: Command, place: Place, error: unknown): RoutedCommand {
    const routed = new RoutedCommand(roads, command);
    routed.#place = place;
    if (toHubError(error).code === 'outcome-unknown') {
      routed.#wasAccepted = true;
      routed.#home = routed.#at;
    }
    routed.#failure = { error };
    return routed;
  }
  #failure: { readonly error: unknown } | undefined;

  async next(): Promise<IteratorResult<CommandUpdate, undefined>> {
    while (!this.#isOver) {
      try {
        if (this.#failure) {
          const { error } = this.#failure;
          this.#failure = undefined;
          throw error;
        }
        this.#source ??= await this.#open();
        if (this.#isOver) {
          void this.#source.return?.();
          break;
        }
        const { value: update, done } = await this.#source.next();
        if (this.#isOver) break;
        if (done || !update) {
          // Its client has been seen elsewhere.
          this.#leave();
          this.#moved('its client has moved');
          if (++this.#moves > maxMoves) await this.#patience.pause(1000);
          continue;
        }
        this.#heard(update);
        if (!this.#fresh.isFresh(update)) continue;
        if (isTerminalUpdate(update)) this.#finish();
        return { value: update, done: false };
      } catch (thrown) {
        this.#leave();
        if (this.#isOver) break;
        const final = await this.#onFailure(toHubError(thrown)).catch((error: unknown) => toHubError(error));
        if (!final) continue;
        this.#finish();
        throw final;
      }
    }
    return { value: undefined, done: true };
  }

  return(): Promise<IteratorResult<CommandUpdate, undefined>> {
    const source = this.#source;
    this.#finish();
    void source?.return?.();
    return Promise.resolve({ value: undefined, done: true });
  }

  #finish(): void {
    this.#isOver = true;
    this.#leave();
    this.#patience.wake();
    this.#tell.signal?.removeEventListener('abort', this.#onAbort);
  }

  #leave(): void {
    this.#source = undefined;
    this.#letGoOfFollowing?.();
    this.#letGoOfFollowing = undefined;
  }

  #heard(update: CommandUpdate): void {
    this.#wasAccepted = true;
    this.#home = this.#at;
    this.#isHomeSilent = false;
    this.#commandId = update.commandId;
    this.#patience.renew();
    this.#moves = 0;
    this.#missingSince = undefined;
    this.#deniedBy.clear();
  }

  async #open(): Promise<Source> {
    if (this.#mode === 'send' && this.#tell.signal?.aborted) throw cancelledBeforeSend(this.#command);
    const place = await this.#where();
    this.#place = place;
    this.#fresh.again();
    return this.#mode === 'send' ? this.#send(place) : this.#watch(place);
  }

  get #at(): Home {
    return this.#place?.kind === 'node' ? this.#place.node.instance : 'here';
  }

  /** Where to go: a live command that was given to a node is looked for there first, as long as that lives. */
  async #where(): Promise<Place> {
    const home = this.#home;
    const isLive = this.#command.whenOffline === 'fail';
    if (this.#mode === 'watch' && isLive && home !== undefined && !this.#deniedBy.has(home) && !this.#isHomeSilent) {
      if (home === 'here') return { kind: 'here' };
      const node = await this.#roads.membership.node(home);
      if (node) return { kind: 'node', node, epoch: 0 };
    }
    return this.#roads.whereabouts.find(this.#command);
  }

  #send(place: Place): Source {
    const { hub, links, observe } = this.#roads;
    const waitForConnectMs = this.#patience.waitLeftMs;
    if (place.kind === 'node') {
      observe({ kind: 'command-routed', toInstance: place.node.instance });
      // Waiting is done here, where every node's claims are heard of.
      const command = this.#command.waitForConnectMs > 0 ? { ...this.#command, waitForConnectMs: 0 } : this.#command;
      return links.to(place.node).send(command, this.#tell)[Symbol.asyncIterator]();
    }
    const isWaiting = this.#command.whenOffline === 'fail' && waitForConnectMs > 0 && place.kind === 'nobody';
    if (isWaiting || this.#command.whenOffline === 'queue') this.#follow();
    const command =
      waitForConnectMs === this.#command.waitForConnectMs ? this.#command : { ...this.#command, waitForConnectMs };
    return hub.send(command, this.#tell)[Symbol.asyncIterator]();
  }

  #watch(place: Place): Source {
    const { hub, links } = this.#roads;
    const { tenant, clientId, whenOffline } = this.#command;
    if (this.#tell.signal?.aborted) void this.#cancel();
    if (place.kind === 'node')
      return links.to(place.node).watch(tenant, this.#commandId, { clientId })[Symbol.asyncIterator]();
    if (whenOffline === 'queue') this.#follow();
    return hub.watch(tenant, this.#commandId, { clientId })[Symbol.asyncIterator]();
  }

  /** Interrupts the reading here when the client turns up at another node. */
  #follow(): void {
    this.#letGoOfFollowing = this.#roads.whereabouts.follow(this.#command, () => {
      this.#letGoOfFollowing?.();
      this.#letGoOfFollowing = undefined;
      void this.#source?.return?.();
    });
  }

  /** Resolves to the error that ends it, or to undefined after which it is tried again. */
  async #onFailure(error: HubError): Promise<HubError | undefined> {
    const { code } = error;
    if (this.#wasAccepted || this.#mode === 'watch') return this.#onLost(error);
    if (error instanceof LinkBroken && error.mayHaveArrived) {
      // The same node takes the same id for the same command; another one is asked only once this one has said no.
      this.#mode = this.#command.idempotent || this.#command.whenOffline === 'queue' ? 'send' : 'watch';
      this.#home = this.#at;
      return this.#again(error);
    }
    const tried = this.#place;
    const isAway = code === 'client-offline';
    if (!isAway && code !== 'unavailable') return error;
    if (tried?.kind !== 'node') {
      // This node drains, and its device is on the way to another one.
      if (this.#roads.hub.isDraining && code === 'unavailable' && this.#patience.waitLeftMs > 0)
        return this.#patience.pause(Math.min(100, this.#patience.waitLeftMs));
      // A store that fences its writers knows better who holds the client.
      if (code !== 'client-offline' || this.#command.whenOffline === 'fail' || this.#patience.refusedLeftMs <= 0)
        return error;
      this.#roads.whereabouts.forget(this.#command);
      return this.#patience.pause(this.#patience.refusedLeftMs);
    }
    this.#roads.whereabouts.forget(this.#command);
    const place = await this.#roads.whereabouts.find(this.#command);
    const isSame = place.kind === 'node' && place.node.instance === tried.node.instance && place.epoch === tried.epoch;
    if (!isSame) {
      this.#moved(error.message);
      return ++this.#moves > maxMoves ? error : undefined;
    }
    // A queued command is never refused because its client is away: whoever says so is about to give the client up.
    const isUnsettled = error instanceof LinkBroken || (isAway && this.#command.whenOffline === 'queue');
    const waitMs = isUnsettled ? this.#patience.refusedLeftMs : isAway ? this.#patience.waitLeftMs : 0;
    return waitMs > 0 ? this.#patience.pause(waitMs) : this.#nobodyThere(error, tried.node);
  }

  /** It was accepted, or may have been: it is looked for until its time is over. */
  async #onLost(error: HubError): Promise<HubError | undefined> {
    const { code } = error;
    const isLive = this.#command.whenOffline === 'fail';
    if (code === 'not-found') {
      this.#deniedBy.add(this.#at);
      this.#roads.whereabouts.forget(this.#command);
      // As long as its client is nobody's, nobody can know: it may come back, and bring the result along.
      const isAway = this.#place?.kind === 'nobody' && this.#mode === 'watch';
      if (!isAway) this.#missingSince ??= this.#roads.clock.monotonic();
      if (!isLive || (!this.#wasAccepted && this.#home !== undefined && this.#deniedBy.has(this.#home))) {
        // The same id is the same command. A live one has to be unknown where it may have arrived.
        this.#mode = 'send';
        return this.#tell.signal?.aborted && !isLive ? error : this.#again(error);
      }
      if (this.#missingSince === undefined) return this.#again(error);
      const missingMs = this.#roads.clock.monotonic() - this.#missingSince;
      return missingMs < movingMs ? this.#again(error) : this.#lost('no node knows it any more', error);
    }
    if (code !== 'unavailable' && code !== 'outcome-unknown' && code !== 'client-offline') return error;
    // By turns: its home may only be out of reach, or its client, and the command with it, elsewhere by now.
    this.#isHomeSilent = error instanceof LinkBroken && !this.#isHomeSilent;
    this.#mode = 'watch';
    this.#moved(error.message);
    return this.#again(error);
  }

  async #again(error: HubError): Promise<HubError | undefined> {
    const { leftMs } = this.#patience;
    this.#roads.whereabouts.forget(this.#command);
    return leftMs > 0 ? this.#patience.pause(leftMs) : this.#lost(error.message, error);
  }

  #moved(reason: string): void {
    const { tenant, clientId } = this.#command;
    if (this.#wasAccepted) this.#mode = 'watch';
    this.#roads.whereabouts.forget(this.#command);
    this.#roads.observe({ kind: 'command-relocated', tenant, clientId, commandId: this.#commandId, reason });
  }

  #nobodyThere(error: HubError, node: NodeInfo): HubError {
    if (!(error instanceof LinkBroken)) return error;
    const { clientId, id: commandId } = this.#command;
    const message = `client ${clientId} is held by node ${node.id}, which cannot be reached: ${error.message}`;
    return new HubError('unavailable', message, { cause: error, commandId, retryAfterMs: 1000 });
  }

  #lost(why: string, cause: HubError): HubError {
    const { clientId, whenOffline } = this.#command;
    const what = `command ${this.#commandId} to client ${clientId}: ${why}`;
    const options = { cause, commandId: this.#commandId };
    if (whenOffline === 'queue') return new HubError('unavailable', `lost sight of queued ${what}`, options);
    return new HubError('outcome-unknown', `lost sight of ${what}; it may have been run`, options);
  }

  /** A road that was opened with `send` has the signal, too. */
  readonly #onAbort = (): void => {
    this.#patience.wake();
    if (this.#mode === 'watch') void this.#cancel();
  };

  /** Asks until it was heard: its client may still be on the way to another node. What comes of it is told by the updates. */
  async #cancel(): Promise<void> {
    if (this.#isCancelling) return;
    this.#isCancelling = true;
    while (!this.#isOver)
      try {
        await this.#roads.cancel({ ...this.#command, id: this.#commandId }, 'cancelled by its caller');
        break;
      } catch (thrown) {
        const { code } = toHubError(thrown);
        if (code !== 'unavailable' && code !== 'not-found') break;
        await new Promise<void>((resolve) => this.#roads.clock.after(cancelEveryMs, resolve));
      }
    this.#isCancelling = false;
  }
}

function cancelledBeforeSend({ id }: Command): HubError {
  return new HubError('command-cancelled', `command ${id} was cancelled before it was sent`, { commandId: id });
}
