import { HubError } from '../errors.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { ClientLister } from './client-lister.ts';
import { invalid } from './send-options.ts';
import { defaultServiceName, getService } from './service-registry.ts';

/** A bearer token, or a function that gives the one to use now (called for each call that needs one). */
export type Token = string | (() => string | Promise<string>);

/** How a remote hub's certificate is checked, and how the caller shows itself. PEM. */
export interface RemoteTls {
  /** Authorities to trust. Default: those of the system. */
  readonly ca?: string | Buffer | undefined;
  /** The caller's own certificate and key, for mTLS. Both or none. */
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
  /** The name that the hub's certificate has to have. Default: the address's host. */
  readonly serverName?: string | undefined;
}

/** How to show oneself to a hub in another process, and how to know it. */
export interface RemoteOptions {
  /** Default: none. */
  readonly token?: Token | undefined;
  /** `true`: TLS with the system's authorities. Default: plain. */
  readonly tls?: RemoteTls | true | undefined;
}

/** A road that is owned by whoever opened it. */
export interface RemoteTransport extends CommandTransport, Partial<ClientLister> {
  close(): Promise<void> | void;
}

/** How this process reaches hubs in other processes. Filled in by the package's entry, so that callers need no gRPC. */
export interface RemoteRoads {
  /** Opens lazily: it does not wait for the hub to be there. */
  connect(address: string, options: RemoteOptions): RemoteTransport;
  /** `SIGNALBOX_ADDRESS`, if it is set. */
  defaultAddress(): string | undefined;
  /** `SIGNALBOX_TOKEN`, if it is set. For the default address only: no other hub is to see it. */
  defaultToken?(): string | undefined;
}

/** Which road to take; the first that is there, in this order. Without any of them: `SIGNALBOX_ADDRESS`. */
export interface RoadOptions extends RemoteOptions {
  /** An own road. Stays its owner's: `close()` of a client leaves it open. */
  readonly transport?: CommandTransport | undefined;
  /** A hub in another process: `host:port` or `unix:///path`. */
  readonly address?: string | undefined;
  /** Name of a service registered in this process. Default: `default`. */
  readonly service?: string | undefined;
}

/** Says how hubs in other processes are reached. */
export function setRemoteRoads(roads: RemoteRoads): void {
  remoteRoads = roads;
}

/** Closes every connection that clients of this process share. A client that is used again connects anew. */
export async function closeTransports(): Promise<void> {
  const open = [...shared.values()].flat();
  shared.clear();
  await Promise.all(open.map((connection) => connection.close()));
}

/** The road of one client: looked up when it is needed, as a service may be registered (or replaced) later. */
export class Road {
  readonly #options: RoadOptions;
  readonly #service: string;
  #connection: SharedConnection | undefined;
  #isClosed = false;

  constructor(options: RoadOptions) {
    const { transport, address, service } = options;
    if (transport !== undefined && typeof transport.send !== 'function')
      throw invalid('transport', transport, 'a CommandTransport');
    if (address !== undefined && (typeof address !== 'string' || address === ''))
      throw invalid('address', address, 'host:port or unix:///path');
    if (transport !== undefined && address !== undefined)
      throw new HubError('invalid-argument', `both a transport and the address ${address} were given: give one`);
    this.#options = options;
    this.#service = service ?? defaultServiceName;
  }

  /** Throws `unavailable` naming the four ways to give a road when there is none. */
  transport(): CommandTransport {
    if (this.#isClosed) throw new HubError('unavailable', 'this client is closed');
    const { transport, address } = this.#options;
    if (transport !== undefined) return transport;
    if (address !== undefined) return this.#connect(address, this.#options.token);
    const service = getService(this.#service);
    if (service !== undefined) return service;
    const fallback = remoteRoads?.defaultAddress();
    if (fallback !== undefined && fallback !== '')
      return this.#connect(fallback, this.#options.token ?? remoteRoads?.defaultToken?.());
    throw new HubError(
      'unavailable',
      `no road to the hub: give a transport or an address, register a service named "${this.#service}" in this ` +
        'process, or set SIGNALBOX_ADDRESS',
    );
  }

  /** Lets go of a shared connection; the last to do so closes it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.release();
  }

  #connect(address: string, token: Token | undefined): CommandTransport {
    const held = this.#connection;
    if (held !== undefined && held.address === address && !held.isClosed) return held.transport;
    // Closed by closeTransports, or SIGNALBOX_ADDRESS has changed. A failing close is its transport's to tell.
    void held?.release().catch(() => undefined);
    this.#connection = SharedConnection.acquire(address, { token, tls: this.#options.tls });
    return this.#connection.transport;
  }
}

let remoteRoads: RemoteRoads | undefined;

// One connection per address and credentials, whoever asks: a process with a thousand clients holds one HTTP/2
// connection. TLS options and token functions are told apart by identity.
const shared = new Map<string, SharedConnection[]>();

class SharedConnection {
  readonly address: string;
  readonly transport: RemoteTransport;
  readonly #options: RemoteOptions;
  #users = 0;
  #closing: Promise<void> | undefined;

  constructor(address: string, options: RemoteOptions, roads: RemoteRoads) {
    this.address = address;
    this.#options = options;
    this.transport = roads.connect(address, options);
  }

  static acquire(address: string, { token, tls }: RemoteOptions): SharedConnection {
    if (remoteRoads === undefined)
      throw new HubError('unavailable', `cannot reach ${address}: import "signalbox" for the RPC road`);
    const known = shared.get(address) ?? [];
    let connection = known.find((one) => one.#options.token === token && one.#options.tls === tls);
    if (connection === undefined) {
      connection = new SharedConnection(address, { token, tls }, remoteRoads);
      shared.set(address, [...known, connection]);
    }
    connection.#users++;
    return connection;
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  async release(): Promise<void> {
    this.#users--;
    if (this.#users > 0 || this.isClosed) return;
    const others = (shared.get(this.address) ?? []).filter((one) => one !== this);
    if (others.length > 0) shared.set(this.address, others);
    else shared.delete(this.address);
    await this.close();
  }

  close(): Promise<void> {
    this.#closing ??= Promise.resolve(this.transport.close());
    return this.#closing;
  }
}
