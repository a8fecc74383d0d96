import {
  type ClientDirectory,
  Membership,
  memoryClientDirectory,
  nodeEnd,
  type RoutedHub,
  routed,
} from '../../../src/cluster/index.ts';
import { HubError } from '../../../src/errors.ts';
import { type CommandStore, Hub, type HubOptions, memoryCommandStore } from '../../../src/hub/index.ts';
import type { VirtualClock } from '../../../src/testing/index.ts';
import { MemoryNodes } from '../../cluster/memory-nodes.ts';

export interface SimulatedNode {
  readonly id: string;
  readonly hub: Hub;
  readonly road: RoutedHub;
  /** Resolves when it is killed. */
  readonly gone: Promise<void>;
  readonly isDead: boolean;
  /** What it asks of Redis from now on is carried out or not, and never answered, until the returned function is called. */
  cutOff(): () => void;
  /** Gone at once; what it has asked of Redis is carried out or not. */
  kill(): void;
}

/** A call without an answer fails after so many ms, as those to Redis do. */
const timeoutMs = 2000;

/** Nodes in one process over one store and one directory, which they reach by roads that lose answers. */
export class SimulatedNodes {
  readonly #clock: VirtualClock;
  readonly #random: () => number;
  readonly #directory: ReturnType<typeof memoryClientDirectory>;
  readonly #store: CommandStore;
  readonly #wires = new MemoryNodes();
  readonly #options: HubOptions;

  constructor(clock: VirtualClock, random: () => number, options: HubOptions) {
    this.#clock = clock;
    this.#random = random;
    const directory = memoryClientDirectory({ clock });
    this.#directory = directory;
    this.#store = memoryCommandStore({ holderOf: (owner) => directory.holderOf(owner) });
    this.#options = options;
  }

  async start(id: string): Promise<SimulatedNode> {
    const [clock, random] = [this.#clock, this.#random];
    const { promise: gone, resolve: die } = Promise.withResolvers<void>();
    const lane = new Lane(clock, random);
    const directory = lane.through(this.#directory) as ClientDirectory;
    const links = this.#wires.links();
    const membership = new Membership({ directory, links, id, version: 'test', clock, random, leaseMs: 2000 });
    await membership.join(`${id}:1`);
    const commands = lane.through(this.#store);
    const hub = new Hub({ ...this.#options, clock, random, commands, node: id, claims: membership });
    membership.attach(hub);
    this.#wires.add(`${id}:1`, nodeEnd(hub));
    const road = routed(hub, { membership, directory, links, clock, random });
    const wires = this.#wires;
    return {
      id,
      hub,
      road,
      gone,
      get isDead() {
        return lane.isDead;
      },
      cutOff() {
        lane.isCut = true;
        return () => {
          lane.isCut = false;
        };
      },
      kill() {
        lane.isDead = true;
        wires.remove(`${id}:1`);
        die();
        road.close();
        void hub.close().then(() => membership.close());
      },
    };
  }
}

/** One connection to Redis: calls and answers arrive later, and in their order. */
class Lane {
  readonly #clock: VirtualClock;
  readonly #random: () => number;
  #up = 0;
  #down = 0;
  isCut = false;
  isDead = false;

  constructor(clock: VirtualClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** `target` as it is reached by this road. Hints (`on...`) are lost while it is cut. */
  through<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const method = target[name as keyof T] as (...args: unknown[]) => unknown;
        if (!String(name).startsWith('on'))
          return (...args: unknown[]) => this.#call(() => method.apply(target, args) as Promise<unknown>);
        return (about: unknown, listener: (...news: unknown[]) => void) =>
          method.call(target, about, (...news: unknown[]) => {
            if (!this.isCut && !this.isDead) listener(...news);
          });
      },
    });
  }

  #call(call: () => Promise<unknown>): Promise<unknown> {
    const clock = this.#clock;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const away = (): void => reject(new HubError('unavailable', 'no answer in time', { retryAfterMs: 1000 }));
    if (this.isDead) {
      away();
      return promise;
    }
    const letGo = clock.after(timeoutMs, away);
    this.#up = this.#arrival(this.#up);
    clock.after(this.#up - clock.monotonic(), () => {
      // What was on its way when the road broke has arrived, or has not.
      if ((this.isCut || this.isDead) && this.#random() < 0.5) return;
      const answer = (tell: () => void): void => {
        this.#down = this.#arrival(this.#down);
        clock.after(this.#down - clock.monotonic(), () => {
          if (this.isCut || this.isDead) return;
          letGo();
          tell();
        });
      };
      call().then(
        (value) => answer(() => resolve(value)),
        (error: unknown) => answer(() => reject(error)),
      );
    });
    return promise;
  }

  #arrival(newest: number): number {
    return Math.max(newest, this.#clock.monotonic() + 1 + 9 * this.#random());
  }
}
