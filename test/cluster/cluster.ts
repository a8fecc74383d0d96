import {
  type ClientDirectory,
  type ClusterFact,
  Membership,
  nodeEnd,
  type RoutedHub,
  routed,
} from '../../src/cluster/index.ts';
import { memoryClientDirectory } from '../../src/cluster/memory-client-directory.ts';
import { type CommandStore, Hub, type HubOptions, memoryCommandStore } from '../../src/hub/index.ts';
import type { CommandState } from '../../src/protocol/command.ts';
import { type ScriptedDevice, scriptedDevice, type VirtualClock, virtualClock } from '../../src/testing/index.ts';
import { MemoryNodes } from './memory-nodes.ts';

/** One node: a hub, its place in the cluster, and the road over all. */
export interface TestNode {
  readonly id: string;
  readonly hub: Hub;
  readonly membership: Membership;
  readonly road: RoutedHub;
  readonly facts: ClusterFact[];
  /** Gone as after a kill: says nothing to anybody. */
  kill(): void;
}

export interface TestClusterOptions {
  readonly clock?: VirtualClock;
  readonly commands?: CommandStore;
  readonly hub?: HubOptions;
}

/** Several nodes in one process, over one directory and one store, with a clock that stands still. */
export class TestCluster {
  readonly clock: VirtualClock;
  readonly commands: CommandStore;
  readonly directory: ClientDirectory;
  readonly nodes: TestNode[] = [];
  readonly #wires = new MemoryNodes();
  readonly #hubOptions: HubOptions;

  constructor({ clock = virtualClock(), commands, hub = {} }: TestClusterOptions = {}) {
    this.clock = clock;
    const directory = memoryClientDirectory({ clock });
    this.directory = directory;
    this.commands = commands ?? memoryCommandStore({ holderOf: (owner) => directory.holderOf(owner) });
    this.#hubOptions = hub;
  }

  /** Moves time until `done` has settled. */
  async soon<T>(done: Promise<T>, stepMs = 500): Promise<T> {
    let isOver = false;
    void done.then(
      () => (isOver = true),
      () => (isOver = true),
    );
    for (let turns = 0; !isOver && turns < 200; turns++) await this.clock.advance(stepMs);
    return done;
  }

  /** What stands behind a node's hub: to be attached to it. */
  async membership(id: string, facts: ClusterFact[] = []): Promise<Membership> {
    const membership = new Membership({
      directory: this.directory,
      links: this.#wires.links(),
      id,
      version: 'test',
      clock: this.clock,
      random: () => 0.5,
      observe: (fact) => facts.push(fact),
    });
    await membership.join(`${id}:1`);
    return membership;
  }

  async add(id: string): Promise<TestNode> {
    const facts: ClusterFact[] = [];
    const membership = await this.membership(id, facts);
    const { clock, commands } = this;
    const hub = new Hub({ clock, commands, random: () => 0.5, node: id, ...this.#hubOptions, claims: membership });
    return this.attach(id, hub, membership, facts);
  }

  /** Makes a node of a hub that claims by this membership. */
  attach(id: string, hub: Hub, membership: Membership, facts: ClusterFact[] = []): TestNode {
    membership.attach(hub);
    this.#wires.add(`${id}:1`, nodeEnd(hub));
    const { directory, clock } = this;
    const observe = (fact: ClusterFact): unknown => facts.push(fact);
    const links = this.#wires.links();
    const road = routed(hub, { membership, directory, links, clock, random: () => 0.5, observe });
    const node = { id, hub, membership, road, facts, kill: () => this.#wires.remove(`${id}:1`) };
    this.nodes.push(node);
    return node;
  }

  /** Out of reach for the other nodes, and back. */
  cut(node: TestNode): () => void {
    this.#wires.remove(`${node.id}:1`);
    return () => this.#wires.add(`${node.id}:1`, nodeEnd(node.hub));
  }

  async close(): Promise<void> {
    for (const { hub, membership, road } of this.nodes) {
      road.close();
      await hub.close();
      await membership.close();
    }
    await this.directory.close();
  }
}

export const states = (updates: readonly { readonly state: CommandState }[]): CommandState[] =>
  updates.map(({ state }) => state);

/** The same device, with its journal, at whatever node: `pump-7`, unless the hello says otherwise. */
export async function connect(
  node: TestNode,
  hello: Parameters<ScriptedDevice['hello']>[0] = {},
): Promise<ScriptedDevice> {
  const device = scriptedDevice(node.hub);
  await device.hello({ bootId: 'boot-1', journalId: 'journal-1', ...hello });
  return device;
}
