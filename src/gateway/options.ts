import type { Login } from '../auth/password-login.ts';
import type { Authenticator } from '../auth/principal.ts';
import type { TicketBooth } from '../auth/ticket-booth.ts';
import type { EventArchive } from '../events/event-archive.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import type { ShownClients } from '../hub/client-info.ts';
import type { CommandFilter } from '../hub/command-store.ts';
import type { StreamLeases } from '../leases/index.ts';
import type { CommandRecord, CommandUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { PayloadJson } from '../schemas/payload-json.ts';
import type { Tasks } from '../tasks/index.ts';
import type { GatewayFact } from './facts.ts';

/** What the gateway needs of a hub. */
export interface GatewayHub extends CommandTransport {
  readonly clients: ShownClients;
  get(tenant: string, commandId: string): Promise<CommandRecord>;
  list(filter: CommandFilter): Promise<CommandRecord[]>;
  cancel(tenant: string, commandId: string, reason: string): Promise<CommandUpdate>;
}

/** What the gateway needs of tasks. */
export type GatewayTasks = Pick<Tasks, 'definitions' | 'trigger' | 'snapshot' | 'get' | 'list' | 'cancel'>;

/** One-use tickets, which stand for a principal in a URL. */
export type Tickets = Pick<TicketBooth, 'issue' | 'redeem'>;

export interface GatewayOptions {
  readonly hub: GatewayHub;
  readonly log: EventLog;
  readonly authenticator: Authenticator;
  /** Where to listen: `host:port` (port 0 for any, `[::1]:0` for IPv6) or `unix:///path`. */
  readonly addresses: readonly string[];
  /** PEM texts. With it, TCP addresses speak HTTPS: HTTP/2, and HTTP/1.1 for those who cannot. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  /**
   * Names that a request may be addressed to, without port. Default: `localhost`, `127.0.0.1`, `[::1]` and the
   * hosts of `addresses`; any name where an address is a wildcard (`0.0.0.0`, `[::]`).
   */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Origins (`https://app.example.com`) whose pages may call, beside the gateway's own. Default: none. */
  readonly allowedOrigins?: readonly string[] | undefined;
  readonly limits?: GatewayLimits | undefined;
  /** Limits how many event streams a subject has open at once in all gateways that share a store. They stay their
   *  owner's. Default: none. */
  readonly leases?: StreamLeases | undefined;
  /** Finds stored events across channels. Default: none, which is said. */
  readonly archive?: EventArchive | undefined;
  /** Login by name and password. Default: none, which is said. */
  readonly login?: Login | undefined;
  /** Background work that can be triggered and watched. They stay their owner's. Default: none, and no such routes. */
  readonly tasks?: GatewayTasks | undefined;
  /** Default: a booth of its own, with tickets of 30 s. */
  readonly tickets?: Tickets | undefined;
  /** Message types, for JSON payloads. Default: none, payloads come and go as base64. */
  readonly types?: PayloadJson | undefined;
  /** The page at `/`, and what it imports from `/browser/`. Default: none. */
  readonly page?: GatewayPage | undefined;
  /** What `/metrics` answers. Default: nothing (404). */
  readonly metrics?: (() => Promise<{ contentType: string; body: string }>) | undefined;
  /** What `/ready` answers. Default: ready until drained. */
  readonly ready?: (() => Readiness | Promise<Readiness>) | undefined;
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  readonly observe?: ((fact: GatewayFact) => void) | undefined;
  readonly clock?: Clock | undefined;
  /** Numbers from 0 to 1, to spread reconnects. Default: `Math.random`. */
  readonly random?: (() => number) | undefined;
}

export interface Readiness {
  readonly ok: boolean;
  /** Why not. */
  readonly reasons: readonly string[];
}

export interface GatewayPage {
  readonly html: string;
  /** A file of the browser library by its path below `/browser/`; undefined: there is none. */
  module(path: string): Promise<{ body: string | Buffer; type: string } | undefined>;
}

export interface GatewayLimits {
  /** Bytes of a request body; beyond it 413. Default: 1.5 MiB, a payload of 1 MiB in base64. */
  bodyBytes?: number;
  /** Bytes of all request headers; beyond it 431. Default: 16 KiB. */
  headerBytes?: number;
  /** A request that is not complete after this many ms is closed. Default: 15,000. */
  requestMs?: number;
  /** Open connections for each address; more are closed at once. Default: 20,000. */
  connections?: number;
  /** Open event streams; more are answered 429. Default: 10,000. */
  streams?: number;
  /** The same for one subject, in this gateway. Default: 256. */
  streamsPerSubject?: number;
  /** Bytes waiting for one stream before it is parked. Default: 256 KiB. */
  streamBufferBytes?: number;
  /** A stream whose reader takes nothing for this many ms is closed. Default: 30,000. */
  stallMs?: number;
  /** A quiet stream gets a comment after this many ms. Default: 15,000. */
  keepaliveMs?: number;
  /** How soon a browser comes back after a cut, in ms. Default: 2,000. */
  retryMs?: number;
  /** A stream of `/v1/events` without any event for this many ms ends with `hub.idle`. Default: 0, never. */
  idleLimitMs?: number;
  /** A command's answer is waited for at most this many ms; then what is known is told. Default: 120,000. */
  maxWaitMs?: number;
}

export const defaultLimits: Required<GatewayLimits> = {
  bodyBytes: 1.5 * 1024 * 1024,
  headerBytes: 16 * 1024,
  requestMs: 15_000,
  connections: 20_000,
  streams: 10_000,
  streamsPerSubject: 256,
  streamBufferBytes: 256 * 1024,
  stallMs: 30_000,
  keepaliveMs: 15_000,
  retryMs: 2_000,
  idleLimitMs: 0,
  maxWaitMs: 120_000,
};
