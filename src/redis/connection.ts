import { createHash } from 'node:crypto';
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { HubError } from '../errors.ts';
import { type ConnectionSettings, connectionSettings, type RedisConnectionOptions } from './connection-options.ts';
import { isUnknownScript, troubleOf } from './trouble.ts';

/** A Lua script that may be run twice with the same outcome. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
}

export function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

export type Argument = string | number | Buffer;

export interface RunOptions {
  /** Monotonic ms of the clock at which it has failed. Default: `timeoutMs` from now. */
  readonly deadline?: number | undefined;
  /** Resolve only once this many replicas have it, too. Default: 0. */
  readonly replicas?: number | undefined;
}

/** A call that failed for now is made again after this many ms. */
const pauseMs = 50;
/** A connection that leads to a replica is made anew at most this often, in ms. */
const misledMs = 1000;
/** How long a server that is there and does not answer (loading, say) may keep an opening waiting, in ms. */
const openMs = 10_000;
/** One that cannot be reached at the opening is tried again after this many ms. */
const openAgainMs = 500;

/**
 * One connection to Redis (or to each member of a Redis Cluster) for calls that are answered at once. It comes back by
 * itself, for ever. No call hangs: one that has no answer in time fails with `unavailable`, at once while Redis has been
 * away for that long.
 */
export class RedisConnection {
  readonly settings: ConnectionSettings;
  readonly isCluster: boolean;
  readonly #client: Redis | Cluster;
  readonly #waiting = new Set<() => void>();
  readonly #readyListeners = new Set<() => void>();
  readonly #others = new Set<Redis | Cluster>();
  #isReady = true;
  #lostAt = 0;
  #lastError: unknown;
  #misledAt = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  private constructor(client: Redis | Cluster, isCluster: boolean, settings: ConnectionSettings) {
    this.#client = client;
    this.isCluster = isCluster;
    this.settings = settings;
    client.on('error', (error: unknown) => {
      this.#lastError = error;
    });
    client.on('close', () => this.#lost());
    client.on('ready', () => this.#back());
  }

  /** Connects. Throws `unavailable` with what to look at, or `invalid-argument` for an address that is none. */
  static async open(options: RedisConnectionOptions): Promise<RedisConnection> {
    const { connectWithinMs = 0, signal } = options;
    const settings = connectionSettings(options);
    const { clock, observe } = settings;
    const end = clock.monotonic() + connectWithinMs;
    for (let isFirst = true; ; isFirst = false)
      try {
        return await RedisConnection.#open(settings);
      } catch (error) {
        if (!isAbsence(error) || clock.monotonic() >= end || signal?.aborted) throw error;
        const message = `${error.message} Waiting for it, ${Math.round(connectWithinMs / 1000)} s at most.`;
        if (isFirst) observe({ kind: 'redis-awaited', message });
        await pause(Math.min(openAgainMs, end - clock.monotonic()), clock, signal);
      }
  }

  static async #open(settings: ConnectionSettings): Promise<RedisConnection> {
    const first = await ready(new Redis(settings.client), settings);
    let isCluster: boolean;
    try {
      isCluster = /cluster_enabled:1/.test(await first.info('cluster'));
    } catch (cause) {
      first.disconnect();
      throw troubleOf(cause).error;
    }
    if (!isCluster) return new RedisConnection(first, false, settings);
    first.disconnect();
    return new RedisConnection(await ready(clusterClient(settings.client), settings), true, settings);
  }

  get prefix(): string {
    return this.settings.prefix;
  }

  /** False while Redis is known to be away. */
  get isReady(): boolean {
    return this.#isReady && !this.#isClosed;
  }

  /** Calls back each time that Redis is there again. Returns the release. */
  onReady(listener: () => void): () => void {
    this.#readyListeners.add(listener);
    return () => this.#readyListeners.delete(listener);
  }

  /** Runs a script, again and again after lost answers and passing trouble, until the deadline. All keys of one slot. */
  run(
    { lua, sha }: Script,
    keys: readonly string[],
    args: readonly Argument[],
    { deadline, replicas = 0 }: RunOptions = {},
  ): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args];
    return this.#repeat(deadline, async (remainingMs) => {
      try {
        return await this.#send('evalsha', [sha, ...rest], replicas, remainingMs);
      } catch (error) {
        if (!isUnknownScript(error)) throw error;
        return this.#send('eval', [lua, ...rest], replicas, remainingMs);
      }
    });
  }

  /** One plain command that may be run twice. Texts in the answer are Buffers. */
  call(name: string, args: readonly Argument[], { deadline }: Pick<RunOptions, 'deadline'> = {}): Promise<unknown> {
    return this.#repeat(deadline, () => this.#client.callBuffer(name, [...args]));
  }

  /** `INFO` of one server (of a cluster: of each master). */
  async info(): Promise<string[]> {
    const nodes = this.#client instanceof Cluster ? this.#client.nodes('master') : [this.#client];
    try {
      return await Promise.all(nodes.map((node) => node.info()));
    } catch (cause) {
      throw troubleOf(cause).error;
    }
  }

  /** A value of the server's configuration; undefined where the server does not tell. */
  async config(name: string): Promise<string | undefined> {
    const node = this.#client instanceof Cluster ? this.#client.nodes('master')[0] : this.#client;
    try {
      const found = (await node?.config('GET', name)) as string[] | undefined;
      return found?.[1];
    } catch {
      return undefined; // hosted servers forbid the question
    }
  }

  /** A further connection to the same place, for subscriptions or blocking calls. Closed with this one. */
  another(client: RedisOptions): Redis | Cluster {
    const options = { ...this.settings.client, ...client };
    const other = this.isCluster ? clusterClient(options) : new Redis(options);
    other.on('error', () => undefined); // its owner sees that it is not ready
    this.#others.add(other);
    other.once('end', () => this.#others.delete(other));
    return other;
  }

  /** Calls under way fail. May be called twice. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const wake of [...this.#waiting]) wake();
    for (const other of this.#others) other.disconnect();
    this.#client.disconnect();
  }

  async #repeat<T>(deadline: number | undefined, attempt: (remainingMs: number) => Promise<T>): Promise<T> {
    const { clock, timeoutMs } = this.settings;
    const end = deadline ?? clock.monotonic() + timeoutMs;
    for (;;) {
      await this.#untilReady(end);
      const remainingMs = end - clock.monotonic();
      if (remainingMs <= 0) throw this.#away('no answer in time');
      try {
        return await this.#within(remainingMs, attempt(remainingMs));
      } catch (cause) {
        const trouble = troubleOf(cause);
        if (trouble.isMisled) this.#reconnect();
        if (trouble.kind !== 'passing' || this.#isClosed || clock.monotonic() + pauseMs >= end) throw trouble.error;
        await this.#pause(pauseMs);
      }
    }
  }

  async #send(name: 'eval' | 'evalsha', args: Argument[], replicas: number, remainingMs: number): Promise<unknown> {
    if (replicas === 0) return this.#client.callBuffer(name, args);
    // On the same connection right behind the write: WAIT is about what this connection has written.
    const pipeline = this.#client.pipeline();
    pipeline.callBuffer(name, args);
    pipeline.wait(replicas, Math.max(1, Math.floor(remainingMs - pauseMs)));
    const [written, waited] = (await pipeline.exec()) ?? [];
    if (!written || !waited) throw new Error('Connection is closed.');
    if (written[0]) throw written[0];
    if (waited[0]) throw waited[0];
    if (Number(waited[1]) >= replicas) return written[1];
    throw new HubError('unavailable', `no replica of Redis has confirmed the write in time`, { retryAfterMs: 1000 });
  }

  #within<T>(ms: number, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const letGo = this.settings.clock.after(ms, () => reject(this.#away('no answer in time')));
      work.then(resolve, reject).finally(letGo);
    });
  }

  async #untilReady(end: number): Promise<void> {
    const { clock, timeoutMs } = this.settings;
    while (!this.#isReady && !this.#isClosed) {
      // Who has waited that long in vain knows the answer for those that come after.
      const remainingMs = Math.min(end, this.#lostAt + timeoutMs) - clock.monotonic();
      if (remainingMs <= 0) throw this.#away();
      await this.#pause(remainingMs);
    }
    if (this.#isClosed) throw new HubError('unavailable', 'the connection to Redis is closed');
  }

  /** Ends early when Redis is there again, and when this is closed. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        letGo();
        this.#waiting.delete(wake);
        resolve();
      };
      const letGo = this.settings.clock.after(ms, wake);
      this.#waiting.add(wake);
    });
  }

  #away(what?: string): HubError {
    const why = what ?? (this.#lastError instanceof Error ? this.#lastError.message : 'the connection is lost');
    return new HubError('unavailable', `Redis at ${this.settings.place} cannot be reached: ${why}`, {
      retryAfterMs: 1000,
      cause: this.#lastError,
    });
  }

  #lost(): void {
    if (!this.#isReady || this.#isClosed) return;
    this.#isReady = false;
    this.#lostAt = this.settings.clock.monotonic();
    this.settings.observe({ kind: 'redis-lost', error: this.#away() });
  }

  #back(): void {
    if (this.#isReady || this.#isClosed) return;
    this.#isReady = true;
    this.#lastError = undefined;
    this.settings.observe({ kind: 'redis-back', afterMs: Math.round(this.settings.clock.monotonic() - this.#lostAt) });
    for (const wake of [...this.#waiting]) wake();
    for (const listener of [...this.#readyListeners]) listener();
  }

  /** After a failover the name may lead elsewhere. */
  #reconnect(): void {
    const now = this.settings.clock.monotonic();
    if (now - this.#misledAt < misledMs || this.#client instanceof Cluster) return;
    this.#misledAt = now;
    this.#client.disconnect(true);
  }
}

function clusterClient(client: RedisOptions): Cluster {
  const { host, port, path: _, db: __, retryStrategy, ...redisOptions } = client;
  return new Cluster([{ host: host ?? '127.0.0.1', port: port ?? 6379 }], {
    redisOptions,
    enableOfflineQueue: client.enableOfflineQueue ?? false,
    clusterRetryStrategy: retryStrategy ?? ((attempts) => Math.min(1000, 50 * attempts)),
    slotsRefreshTimeout: 2000,
    // What is repeated, and until when, is decided here, not there.
    maxRedirections: 4,
    retryDelayOnFailover: 100,
    retryDelayOnClusterDown: 100,
  });
}

/** Resolves once it is ready; an address where nothing answers, or a wrong password, is told at once. */
async function ready<C extends Redis | Cluster>(client: C, { place, clock }: ConnectionSettings): Promise<C> {
  const opened = new Promise<void>((resolve, reject) => {
    const letGo = clock.after(openMs, () => reject(new Error(`it is there, but was not ready within ${openMs} ms`)));
    client.once('ready', () => {
      letGo();
      resolve();
    });
    client.on('error', (error: unknown) => {
      letGo();
      reject(error);
    });
  });
  try {
    await opened;
    return client;
  } catch (cause) {
    client.disconnect();
    throw new HubError('unavailable', `Redis at ${place} ${refusal((cause as Error).message)}`, { cause });
  }
}

/** Whether nobody was there who could have answered. */
function isAbsence(error: unknown): error is HubError {
  const { cause } = error as HubError;
  const message = cause instanceof Error ? `${(cause as NodeJS.ErrnoException).code} ${cause.message}` : '';
  return (
    error instanceof HubError &&
    error.code === 'unavailable' &&
    /ECONN|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EPIPE|ENOENT|time(d |-)?out|not ready within|closed|unreachable|LOADING/i.test(
      message,
    )
  );
}

function pause(ms: number, clock: ConnectionSettings['clock'], signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      letGo();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const letGo = clock.after(ms, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** Why it did not open, and what to do about it. */
function refusal(message: string): string {
  if (message.startsWith('NOAUTH')) return 'wants a password: write redis://:password@host:6379 or user:password@';
  if (message.startsWith('WRONGPASS')) return `does not take this user and password (${message})`;
  const hint = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN/.test(message) ? ' Is it running, and is the address right?' : '';
  return `cannot be reached: ${message.replace(/\.$/, '')}.${hint}`;
}
