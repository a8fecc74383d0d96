import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { HubError } from '../errors.ts';
import { FaultyLane, type LaneFaults } from './faulty-lane.ts';

/** `up`: from whoever connected to the target. `down`: back. */
export type Direction = 'up' | 'down';

/** What goes wrong in each direction. What is left out goes well. */
export type ProxyFaults = { readonly [D in Direction]?: LaneFaults };

export interface FaultProxyOptions {
  /** Where connections are handed on to: `host:port` or `unix:///path`. A function is asked for each new connection. */
  readonly target: string | (() => string);
  /** Where to listen: `host:port`. Default: `127.0.0.1:0`, any free port. */
  readonly listen?: string | undefined;
  /** Faults from the start. Default: none. */
  readonly faults?: ProxyFaults | undefined;
  /** From 0 to 1; `seededRandom(seed)` makes a run repeatable. Default: `Math.random`. */
  readonly random?: (() => number) | undefined;
}

/** What went through a proxy. */
export interface ProxyCounts {
  /** Connections that were taken. */
  readonly accepted: number;
  /** Of these, still open at either end. */
  readonly open: number;
  /** Connections that a fault has ended. */
  readonly cut: number;
  /** Bytes that were handed on. */
  readonly up: number;
  readonly down: number;
  /** Bytes that a black hole has swallowed. */
  readonly swallowed: number;
}

/** A TCP road with faults that a test switches on and off. It knows no protocol: anything over TCP can go through it. */
export interface FaultProxy extends AsyncDisposable {
  /** `host:port`, to be connected to instead of the target. */
  readonly address: string;
  readonly counts: ProxyCounts;
  /** Replaces the faults of connections, open and to come; `{}` heals them. `cutAfterBytes` is for new connections only. */
  setFaults(faults: ProxyFaults): void;
  /** Nothing is read any more: senders feel it as backpressure. Everything stays open, and nothing is lost. */
  pause(direction?: Direction): void;
  resume(): void;
  /** Swallows all bytes and every end of a connection, as a network that has gone silent. New connections are taken and never answered. */
  blackHole(direction?: Direction): void;
  /** Ends the black hole. Connections that have lost bytes in it are reset, as they would be garbage. */
  heal(): void;
  /** One end of every connection is gone without the other end hearing of it. Default: the target's end is gone. */
  halfOpen(gone?: 'near' | 'target'): void;
  /** Ends every connection at both ends: by a reset, or politely. Default: reset. Returns how many there were. */
  cutAll(how?: 'reset' | 'end'): number;
  /** Ends some connections, each with this chance (0 to 1), by a reset. Returns how many. */
  cutSome(chance: number): number;
  /** Resets new connections at once. */
  block(): void;
  unblock(): void;
  /** Ends everything and stops listening. May be called twice. */
  close(): Promise<void>;
}

/** Opens a proxy with faults. Throws `invalid-argument` for an address that is none, and what listening throws. */
export async function faultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const { target, listen = '127.0.0.1:0', faults = {}, random = Math.random } = options;
  const proxy = new FaultyRoad(typeof target === 'function' ? target : () => target, random, faults);
  await proxy.listen(listen);
  return proxy;
}

class FaultyRoad implements FaultProxy {
  readonly #target: () => string;
  readonly #random: () => number;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #totals = { accepted: 0, cut: 0, up: 0, down: 0, swallowed: 0 };
  #faults: ProxyFaults;
  #isBlocked = false;
  #paused: Direction | 'both' | undefined;
  #hole: Direction | 'both' | undefined;
  #closing: Promise<void> | undefined;
  #address = '';

  constructor(target: () => string, random: () => number, faults: ProxyFaults) {
    this.#target = target;
    this.#random = random;
    this.#faults = faults;
    this.#server = createServer({ allowHalfOpen: true }, (near) => this.#accept(near));
  }

  async listen(address: string): Promise<void> {
    const where = destination(address);
    if (!('port' in where)) throw new HubError('invalid-argument', `${address} is not host:port`);
    this.#server.listen(where.port, where.host);
    await once(this.#server, 'listening');
    this.#address = `${where.host}:${(this.#server.address() as AddressInfo).port}`;
  }

  get address(): string {
    return this.#address;
  }

  get counts(): ProxyCounts {
    return { ...this.#totals, open: this.#links.size };
  }

  setFaults(faults: ProxyFaults): void {
    this.#faults = faults;
    for (const link of this.#links) link.setFaults(faults);
  }

  pause(direction?: Direction): void {
    this.#paused = direction ?? 'both';
    for (const link of this.#links) link.each(direction, (lane) => lane.pause());
  }

  resume(): void {
    this.#paused = undefined;
    for (const link of this.#links) link.each(undefined, (lane) => lane.resume());
  }

  blackHole(direction?: Direction): void {
    this.#hole = direction ?? 'both';
    for (const link of this.#links) link.each(direction, (lane) => lane.swallow());
  }

  heal(): void {
    this.#hole = undefined;
    for (const link of [...this.#links]) if (!link.heal()) this.#cut(link);
  }

  halfOpen(gone: 'near' | 'target' = 'target'): void {
    for (const link of [...this.#links]) link.halfOpen(gone);
  }

  cutAll(how: 'reset' | 'end' = 'reset'): number {
    const all = [...this.#links];
    for (const link of all)
      if (how === 'reset') this.#cut(link);
      else link.end();
    if (how === 'end') this.#totals.cut += all.length;
    return all.length;
  }

  cutSome(chance: number): number {
    const chosen = [...this.#links].filter(() => this.#random() < chance);
    for (const link of chosen) this.#cut(link);
    return chosen.length;
  }

  block(): void {
    this.#isBlocked = true;
  }

  unblock(): void {
    this.#isBlocked = false;
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const link of [...this.#links]) link.reset();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(near: Socket): void {
    this.#totals.accepted++;
    if (this.#isBlocked || this.#closing) {
      near.on('error', () => undefined); // the other end may reset first; it is gone either way
      near.resetAndDestroy();
      return;
    }
    const far = connect({ ...destination(this.#target()), allowHalfOpen: true });
    const link: Link = new Link(near, far, {
      random: this.#random,
      faults: this.#faults,
      moved: (direction, bytes) => {
        this.#totals[direction] += bytes;
      },
      swallowed: (bytes) => {
        this.#totals.swallowed += bytes;
      },
      cutDue: () => this.#cut(link),
      closed: () => this.#links.delete(link),
    });
    this.#links.add(link);
    if (this.#paused) link.each(this.#paused === 'both' ? undefined : this.#paused, (lane) => lane.pause());
    if (this.#hole) link.each(this.#hole === 'both' ? undefined : this.#hole, (lane) => lane.swallow());
  }

  #cut(link: Link): void {
    if (!this.#links.has(link)) return;
    this.#totals.cut++;
    link.reset();
  }
}

interface LinkHost {
  readonly random: () => number;
  readonly faults: ProxyFaults;
  moved(direction: Direction, bytes: number): void;
  swallowed(bytes: number): void;
  cutDue(): void;
  closed(): void;
}

/** One connection through the proxy: two sockets, and a lane in each direction. */
class Link {
  readonly #near: Socket;
  readonly #far: Socket;
  readonly #lanes: { readonly [D in Direction]: FaultyLane };
  #isHalfOpen = false;

  constructor(near: Socket, far: Socket, host: LinkHost) {
    this.#near = near;
    this.#far = far;
    const lane = (direction: Direction, from: Socket, to: Socket): FaultyLane =>
      new FaultyLane(from, to, host.faults[direction] ?? {}, {
        random: host.random,
        moved: (bytes) => host.moved(direction, bytes),
        swallowed: (bytes) => host.swallowed(bytes),
        cutDue: () => host.cutDue(),
      });
    this.#lanes = { up: lane('up', near, far), down: lane('down', far, near) };
    let open = 2;
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.setNoDelay(true);
      socket.on('error', () => undefined); // 'close' follows and says it all
      socket.once('close', () => {
        // What breaks behind a black hole is not heard of on the other side of it.
        const lane = this.#lanes[socket === near ? 'up' : 'down'];
        if (!this.#isHalfOpen && !lane.isSwallowing && socket.errored) other.resetAndDestroy();
        else if (!this.#isHalfOpen && !lane.isSwallowing && other.readableEnded) other.destroy();
        if (--open === 0) {
          for (const each of Object.values(this.#lanes)) each.close();
          host.closed();
        }
      });
    }
  }

  each(direction: Direction | undefined, act: (lane: FaultyLane) => void): void {
    for (const name of ['up', 'down'] as const)
      if (direction === undefined || direction === name) act(this.#lanes[name]);
  }

  setFaults(faults: ProxyFaults): void {
    for (const name of ['up', 'down'] as const) this.#lanes[name].setFaults(faults[name] ?? {});
  }

  /** False when bytes were lost, so that nothing sensible can follow. */
  heal(): boolean {
    const lanes = Object.values(this.#lanes);
    const isWhole = lanes.every((lane) => !lane.hasLost) && !this.#near.destroyed && !this.#far.destroyed;
    if (isWhole) for (const lane of lanes) lane.heal();
    return isWhole;
  }

  halfOpen(gone: 'near' | 'target'): void {
    this.#isHalfOpen = true;
    this.each(undefined, (lane) => lane.swallow());
    (gone === 'near' ? this.#near : this.#far).resetAndDestroy();
  }

  end(): void {
    this.#near.end();
    this.#far.end();
    // Whoever does not end its own side does not keep ours.
    setTimeout(() => this.reset(), 1000).unref();
  }

  reset(): void {
    this.#near.resetAndDestroy();
    this.#far.resetAndDestroy();
  }
}

function destination(address: string): { host: string; port: number } | { path: string } {
  if (address.startsWith('unix://')) return { path: address.slice('unix://'.length) };
  const found = /^(?:https?:\/\/)?(.+):(\d{1,5})\/?$/.exec(address);
  if (!found) throw new HubError('invalid-argument', `${JSON.stringify(address)} is not host:port or unix:///path`);
  return { host: found[1]!.replace(/^\[(.*)\]$/, '$1'), port: Number(found[2]) };
}
