import { HubError, toHubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import {
  type Command,
  type CommandRecord,
  type CommandUpdate,
  isTerminalUpdate,
  type TerminalUpdate,
} from '../protocol/command.ts';
import type { CommandTransport, TellOptions } from '../protocol/command-transport.ts';
import type { ClientDirectory, NodeInfo } from './client-directory.ts';
import type { ClusterFact } from './facts.ts';
import type { LocalHub } from './local-hub.ts';
import type { Membership } from './membership.ts';
import type { CommandQuery, NodeLink, NodeLinks } from './node-link.ts';
import { Presence } from './presence.ts';
import { type Crossroads, type Home, RoutedCommand } from './routed-command.ts';
import { type Place, Whereabouts } from './whereabouts.ts';

export interface RoutedOptions {
  readonly membership: Membership;
  readonly directory: ClientDirectory;
  readonly links: NodeLinks;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  readonly observe?: ((fact: ClusterFact) => void) | undefined;
}

/** Where to look for a command by id: with the client's id it is one step. */
export interface LookFor {
  readonly clientId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The hub of this node, and behind it those of all the others. */
export function routed(hub: LocalHub, options: RoutedOptions): RoutedHub {
  return new RoutedHub(hub, options);
}

/** Speaks like one hub, and means all: a command goes to the node that holds its client. */
export class RoutedHub implements CommandTransport {
  readonly #hub: LocalHub;
  readonly #roads: Crossroads;
  readonly #membership: Membership;
  readonly #directory: ClientDirectory;
  readonly clients: Presence;

  constructor(hub: LocalHub, options: RoutedOptions) {
    const { membership, directory, links, clock = systemClock, random = Math.random } = options;
    const observe = options.observe ?? (() => undefined);
    const failed = (cause: unknown): undefined => {
      observe({ kind: 'node-renew-failed', message: toHubError(cause).message, cause });
    };
    const whereabouts = new Whereabouts({ hub, membership, directory, clock, failed });
    this.#hub = hub;
    this.#membership = membership;
    this.#directory = directory;
    this.#roads = {
      hub,
      membership,
      whereabouts,
      links,
      clock,
      random,
      observe,
      cancel: (command, reason) => this.cancel(command.tenant, command.id, reason, { clientId: command.clientId }),
    };
    this.clients = new Presence({ hub, membership, directory, links, clock, failed });
  }

  get isDraining(): boolean {
    return this.#hub.isDraining;
  }

  send(command: Command, options: TellOptions = {}): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => new RoutedCommand(this.#roads, command, options) };
  }

  settle<T>(command: Command, read: (end: TerminalUpdate) => T): Promise<T> {
    // Not handed on: a road that fails is gone around, a reader that throws is not.
    return this.#settle(command).then(read);
  }

  #settle(command: Command): Promise<TerminalUpdate> {
    const { whereabouts, links, observe } = this.#roads;
    if (whereabouts.isHere(command)) return this.#orAgain(this.#hub.settle(command, asItIs), command, { kind: 'here' });
    const place = whereabouts.remembered(command);
    if (!place || command.waitForConnectMs > 0 || command.whenOffline === 'queue')
      return endOf(new RoutedCommand(this.#roads, command, { brief: true }));
    observe({ kind: 'command-routed', toInstance: place.node.instance });
    return this.#orAgain(links.to(place.node).settle(command), command, place);
  }

  watch(tenant: string, commandId: string, { clientId, signal }: LookFor = {}): AsyncIterable<CommandUpdate> {
    const open = async (): Promise<AsyncIterable<CommandUpdate>> => {
      const { value, home } = await this.#ask(tenant, commandId, clientId, (end) =>
        end.get(tenant, commandId, { clientId }),
      ).catch((error: unknown) => this.#orComesBack(tenant, clientId, error));
      return { [Symbol.asyncIterator]: () => RoutedCommand.watching(this.#roads, value.command, commandId, home) };
    };
    return lazily(open, signal);
  }

  async get(tenant: string, commandId: string, { clientId }: LookFor = {}): Promise<CommandRecord> {
    return (await this.#ask(tenant, commandId, clientId, (end) => end.get(tenant, commandId, { clientId }))).value;
  }

  /** Nobody knows it; but where its client's node has died, the client may come back and tell how it ended. */
  async #orComesBack(tenant: string, clientId: string | undefined, error: unknown): Promise<never> {
    if (clientId === undefined || toHubError(error).code !== 'not-found') throw error;
    const entry = await this.#directory.get({ tenant, clientId });
    if (!entry || entry.instance !== undefined || entry.releasedAtMs !== undefined) throw error;
    const message = `the node that had client ${clientId} is gone; the client has not come to another one yet`;
    throw new HubError('unavailable', message, { cause: error, retryAfterMs: 500 });
  }

  async cancel(tenant: string, commandId: string, reason: string, { clientId }: LookFor = {}): Promise<CommandUpdate> {
    const cancel = (end: Pick<NodeLink, 'cancel'>) => end.cancel(tenant, commandId, reason, { clientId });
    return (await this.#ask(tenant, commandId, clientId, cancel)).value;
  }

  /** Commands that are known, newest first. Live ones are known to the node of their client alone: all are asked. */
  async list(filter: CommandQuery): Promise<CommandRecord[]> {
    const { links, whereabouts } = this.#roads;
    const { clientId, tenant } = filter;
    let others: readonly NodeInfo[] = this.#membership.peers;
    if (clientId !== undefined) {
      const place = await whereabouts.find({ tenant, clientId });
      others = place.kind === 'node' ? [place.node] : [];
    }
    const answers = await Promise.all([
      this.#hub.list(filter),
      // A node that cannot be reached has none to show.
      ...others.map((node) =>
        links
          .to(node)
          .list(filter)
          .catch(() => []),
      ),
    ]);
    const newest = new Map<string, CommandRecord>();
    for (const record of answers.flat()) {
      const known = newest.get(record.command.id);
      if (!known || record.last.atMs > known.last.atMs) newest.set(record.command.id, record);
    }
    return [...newest.values()].sort((a, b) => b.acceptedAtMs - a.acceptedAtMs).slice(0, filter.limit);
  }

  /** The nodes of the cluster, by id. */
  async nodes(): Promise<NodeInfo[]> {
    await this.#membership.refreshNodes();
    return this.#membership.all;
  }

  /** Stops looking and listening; commands under way fail at their next step. */
  close(): void {
    this.#roads.whereabouts.close();
    this.clients.close();
  }

  async #orAgain(settled: Promise<TerminalUpdate>, command: Command, place: Place): Promise<TerminalUpdate> {
    try {
      return await settled;
    } catch (error) {
      return endOf(RoutedCommand.after(this.#roads, command, place, error));
    }
  }

  /**
   * Asks who should know the command: the node that holds its client, else this one (and the store behind it), else
   * each of the others.
   */
  async #ask<T>(
    tenant: string,
    commandId: string,
    clientId: string | undefined,
    ask: (end: Pick<NodeLink, 'get' | 'cancel'>) => Promise<T>,
  ): Promise<Answer<T>> {
    const { whereabouts, links } = this.#roads;
    const client = clientId ?? (await this.#clientOf(tenant, commandId));
    const asked = new Set<string>();
    let unreachable: unknown;
    if (client !== undefined) {
      const key = { tenant, clientId: client };
      for (const isFirst of [true, false]) {
        const place = await whereabouts.find(key);
        if (place.kind !== 'node' || asked.has(place.node.instance)) break;
        asked.add(place.node.instance);
        try {
          return { value: await ask(links.to(place.node)), home: place.node.instance };
        } catch (error) {
          whereabouts.forget(key);
          const { code } = toHubError(error);
          if (code !== 'not-found' && (code !== 'unavailable' || !isFirst)) throw error;
          if (code === 'unavailable') unreachable = error;
        }
      }
    }
    try {
      return { value: await ask(this.#hub), home: 'here' };
    } catch (error) {
      if (toHubError(error).code !== 'not-found') throw error;
      return this.#askAll(asked, unreachable ?? error, ask);
    }
  }

  async #askAll<T>(
    asked: Set<string>,
    notFound: unknown,
    ask: (end: Pick<NodeLink, 'get' | 'cancel'>) => Promise<T>,
  ): Promise<Answer<T>> {
    let failure: HubError | undefined;
    const askOne = async (node: NodeInfo): Promise<Answer<T> | undefined> => {
      asked.add(node.instance);
      try {
        return { value: await ask(this.#roads.links.to(node)), home: node.instance };
      } catch (error) {
        if (toHubError(error).code !== 'not-found') failure ??= toHubError(error);
        return undefined;
      }
    };
    // Those that are known, and then those that have joined since.
    for (const isFirst of [true, false]) {
      if (!isFirst) await this.#membership.refreshNodes();
      const others = this.#membership.peers.filter(({ instance }) => !asked.has(instance));
      const answers = await Promise.all(others.map(askOne));
      const answer = answers.find((each) => each !== undefined);
      if (answer) return answer;
    }
    throw failure ?? notFound;
  }

  /** Known here, or in the store. */
  async #clientOf(tenant: string, commandId: string): Promise<string | undefined> {
    try {
      const { command } = await this.#hub.get(tenant, commandId);
      return command.clientId;
    } catch (error) {
      if (toHubError(error).code === 'not-found') return undefined;
      throw error;
    }
  }
}

/** What was found of a command, and at which node. */
interface Answer<T> {
  readonly value: T;
  readonly home: Home;
}

async function endOf(routed: RoutedCommand): Promise<TerminalUpdate> {
  for (;;) {
    const { value, done } = await routed.next();
    if (done) throw new HubError('internal', 'a command ended without its end');
    if (isTerminalUpdate(value)) return value;
  }
}

/** An iterable that is found only once it is read. `return()` works at once; aborting `signal` ends it. */
function lazily<T>(open: () => Promise<AsyncIterable<T>>, signal: AbortSignal | undefined): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      let source: AsyncIterator<T> | undefined;
      let isOver = false;
      let onOver = (): void => undefined;
      const over = new Promise<{ value: undefined; done: true }>((resolve) => {
        onOver = () => resolve({ value: undefined, done: true });
      });
      const end = (): void => {
        isOver = true;
        signal?.removeEventListener('abort', end);
        onOver();
        void source?.return?.();
      };
      signal?.addEventListener('abort', end, { once: true });
      if (signal?.aborted) end();
      const read = async (): Promise<IteratorResult<T, undefined>> => {
        source ??= (await open())[Symbol.asyncIterator]();
        if (isOver) {
          void source.return?.();
          return { value: undefined, done: true };
        }
        return source.next() as Promise<IteratorResult<T, undefined>>;
      };
      return {
        next: () => (isOver ? over : Promise.race([read(), over])),
        async return() {
          end();
          return { value: undefined, done: true };
        },
      };
    },
  };
}

const asItIs = (end: TerminalUpdate): TerminalUpdate => end;
