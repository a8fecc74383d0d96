import type { RedisOptions } from 'ioredis';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';

import { guarded } from '../hub/options.ts';
import type { RedisFact } from './facts.ts';

export interface RedisConnectionOptions {
  /**
   * `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path`, or
   * `redis+sentinel://[user:password@]sentinel[:port],sentinel[:port]/name[/db]` for the primary that Sentinel knows by that
   * name. That it is a member of a Redis Cluster is found out.
   */
  readonly url: string;
  /** Anything more that ioredis takes: `sentinels`, `tls`, `password` from a file... Goes before what the URL says. */
  readonly client?: RedisOptions | undefined;
  /** What our keys begin with. Two installations can share one Redis. Default: `signalbox`. */
  readonly prefix?: string | undefined;
  /** A call that has no answer after this many ms fails with `unavailable`. Default: 2,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * A server that cannot be reached at the opening is waited for so long, in ms; one that refuses us, or is set up wrongly,
   * is not. Default: 0.
   */
  readonly connectWithinMs?: number | undefined;
  /** Aborting it ends that wait. */
  readonly signal?: AbortSignal | undefined;
  readonly clock?: Clock | undefined;
  /** Hears when Redis is lost, back, or came back empty. Default: nobody listens. */
  readonly observe?: ((fact: RedisFact) => void) | undefined;
}

export interface ConnectionSettings {
  /** Where it leads, without password: for messages. */
  readonly place: string;
  readonly prefix: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly observe: (fact: RedisFact) => void;
  /** Of connections for calls that are answered at once. */
  readonly client: RedisOptions;
}

/** Fills in the defaults; throws `invalid-argument` naming what cannot be. */
export function connectionSettings(options: RedisConnectionOptions): ConnectionSettings {
  const { url, prefix = 'signalbox', timeoutMs = 2000, clock = systemClock, observe } = options;
  if (!/^[A-Za-z0-9_.:-]{1,64}$/.test(prefix))
    throw new HubError('invalid-argument', `Redis prefix "${prefix}" is not 1 to 64 of A-Z a-z 0-9 _ . : -`);
  if (!(timeoutMs >= 10 && timeoutMs <= 60_000))
    throw new HubError('invalid-argument', `Redis timeoutMs is ${timeoutMs}, it must be 10 to 60,000`);
  const address = addressOf(url);
  return {
    place: address.name ? `"${address.name}" of Sentinel` : (address.path ?? `${address.host}:${address.port}`),
    prefix,
    timeoutMs,
    clock,
    observe: guarded(observe ?? (() => undefined)),
    client: {
      ...address,
      connectionName: 'signalbox',
      // A write whose answer is lost is repeated by us, who know that it may be, and never by ioredis.
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      connectTimeout: 3000,
      commandTimeout: timeoutMs,
      // A server that is frozen, or behind a road that is, is left: its answers would come at no known time.
      socketTimeout: timeoutMs + 500,
      maxLoadingRetryTime: 250,
      keepAlive: 5000,
      retryStrategy: (attempts) => Math.min(1000, 50 * 2 ** Math.min(attempts, 5)),
      ...options.client,
    },
  };
}

function addressOf(url: string): RedisOptions {
  if (url.startsWith(sentinelScheme)) return sentinelsOf(url);
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new HubError(
      'invalid-argument',
      `${JSON.stringify(hidden(url))} is not an address of Redis: redis://host:6379 is`,
    );
  }
  const { protocol, hostname, port, pathname, username, password } = parsed;
  const login = {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
  };
  if (protocol === 'unix:') return { ...login, path: pathname };
  if (protocol !== 'redis:' && protocol !== 'rediss:')
    throw new HubError(
      'invalid-argument',
      `${JSON.stringify(hidden(url))}: "${protocol}//" is not redis:// or rediss://`,
    );
  const database = pathname.replace(/^\//, '');
  if (!/^\d*$/.test(database))
    throw new HubError('invalid-argument', `${JSON.stringify(hidden(url))}: database "${database}" is not a number`);
  const isSecure = protocol === 'rediss:';
  return {
    ...login,
    host: hostname.replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: Number(port || 6379),
    db: Number(database || 0),
    ...(isSecure && { tls: { servername: hostname } }),
  };
}

const sentinelScheme = 'redis+sentinel://';

/** No URL as the standard has it: several hosts. */
function sentinelsOf(url: string): RedisOptions {
  const [, username = '', password = '', hosts = '', name, db = '0'] =
    /^redis\+sentinel:\/\/(?:([^:@/]*):?([^@/]*)@)?([^@/]+)\/([\w.-]+)(?:\/(\d+))?$/.exec(url) ?? [];
  const sentinels = hosts.split(',').map((each) => {
    const [, host, port = '26379'] = /^(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?$/.exec(each) ?? [];
    return { host: host?.replace(/^\[|\]$/g, '') ?? '', port: Number(port) };
  });
  if (name === undefined || sentinels.some(({ host }) => host === ''))
    throw new HubError(
      'invalid-argument',
      `${JSON.stringify(hidden(url))} is not of the form ${sentinelScheme}host:26379,host:26379/name`,
    );
  return {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    sentinels,
    name,
    db: Number(db),
    sentinelRetryStrategy: (attempts) => Math.min(1000, 50 * attempts),
  };
}

/** Passwords do not belong in messages. */
function hidden(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//***@');
}
