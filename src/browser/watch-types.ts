import type { BackoffOptions } from './backoff.ts';
import type { WatchClock } from './clock.ts';
import type { HubProblem } from './problem.ts';

/** An event of a channel. */
export interface HubEvent {
  readonly channel: string;
  readonly epoch: number;
  /** Number within the epoch. */
  readonly seq: number;
  /** What happened: `client.connected`, `command.succeeded`, `temperature`. */
  readonly type: string;
  /** When, as ISO 8601 in UTC. */
  readonly at: string;
  readonly data: unknown;
  /** Where to go on after this event, perhaps in another process. */
  readonly cursor: string;
}

/** Events `from` to `to` of a channel were not kept: what they said has to be read elsewhere. */
export interface HubGap {
  readonly channel: string;
  readonly epoch: number;
  readonly from: number;
  readonly to: number;
}

/** The numbering of a channel began anew: read again whatever was derived from it. */
export interface HubReset {
  /** Undefined: every channel that is watched. */
  readonly channel: string | undefined;
  readonly reason: string;
}

/** What a watcher hears, in order. */
export type WatchItem =
  | { readonly kind: 'event'; readonly event: HubEvent }
  | { readonly kind: 'gap'; readonly gap: HubGap }
  | { readonly kind: 'reset'; readonly reset: HubReset };

/** Where a watcher is. */
export type WatchState =
  | { readonly kind: 'connecting' }
  /** Connected: what was missed comes first, then what happens. */
  | { readonly kind: 'live' }
  /** Cut off, and trying again in `inMs`. */
  | { readonly kind: 'reconnecting'; readonly inMs: number; readonly problem: HubProblem }
  /** Over, because there is nothing more to come (`finished`), because it was closed, or because of a problem. */
  | { readonly kind: 'closed'; readonly reason: 'finished' | 'closed' }
  | { readonly kind: 'closed'; readonly reason: 'failed'; readonly problem: HubProblem };

/**
 * Asked for a token before each connection and request. `refused` is set when the hub did not take the last one, which
 * was `refusedToken`; answering with that one again ends the matter with the hub's problem.
 */
export type GetToken = (request: {
  readonly refused: HubProblem | undefined;
  readonly refusedToken: string | undefined;
}) => string | undefined | Promise<string | undefined>;

export interface EventsOptions {
  /** Where the gateway is, without a slash at the end. Default: where the page came from. */
  url?: string;
  /** The channels to watch, 1 to 16: `fleet`, `client.<id>`, `command.<id>`. */
  channels: readonly string[];
  /** Gives the bearer token. Giving the refused one again ends the watching. Default: no token. */
  getToken?: GetToken;
  /** Where to go on; the `cursor` of the last event that was handled. Default: see `from`. */
  cursor?: string;
  /** Without a cursor: only what happens from `now` on (default), or from the `start` of what is still kept. */
  from?: 'now' | 'start';
  /** Hears of each change of state. */
  onState?: (state: WatchState) => void;
  /** Ends the watching, as `close()` does. */
  signal?: AbortSignal;
  /** How long to wait before connecting again. */
  backoff?: BackoffOptions;
  /** A connection that is silent for so long (in ms) is taken for dead. Default: 45,000, three missed keepalives. */
  watchdogMs?: number;
  /** Default: the global `fetch`. */
  fetch?: typeof fetch;
  /** For tests. Default: the machine's own. */
  clock?: WatchClock;
  /** For tests. Default: `Math.random`. */
  random?: () => number;
}
