import { HubError } from '../../errors.ts';
import type { EventLog } from '../../events/event-log.ts';
import { type LeaseStore, StreamLeases } from '../../leases/index.ts';
import type { OpenSearchArchiveOptions } from '../../opensearch/index.ts';
import type { RedisOptions } from '../../redis/index.ts';
import { openSqlite } from '../../sqlite/index.ts';
import { logSink, type StreamContext, setStreamSink } from '../../tasks/index.ts';
import type { SignalboxServer } from '../serve.ts';
import { remoteSink } from './remote-sink.ts';
import { type ChannelOptions, type DirectSseOptions, type SseOptions, Streaming } from './streaming.ts';

export interface StreamingOptions {
  /** A hub in this process: its log and its leases are used. They stay its own. */
  readonly server?: Pick<SignalboxServer, 'log' | 'leases'> | undefined;
  /** A log in this process, where there is no `server`. It stays its owner's. */
  readonly log?: EventLog | undefined;
  /** Directory of a store of its own, where there is neither; `:memory:` keeps nothing. */
  readonly data?: string | undefined;
  /** Redis that several processes share (a URL, or all that `openRedis` takes): their streams, and the places of their users, are one. */
  readonly redis?: string | RedisOptions | undefined;
  /** A hub in another process, by its gRPC address: streams of this process lead there. Answers are given there, too. */
  readonly address?: string | undefined;
  /** With `address`: a token with the scope `events:publish`. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Places of each user, and how long they last without a sign. Default: those of `server`, else 5 and 180,000 ms. */
  readonly lease?: { readonly limit?: number; readonly ttlMs?: number } | undefined;
  readonly channel?: ChannelOptions | undefined;
  /** Durable events also go into this OpenSearch, to be looked for. Not with `server` and `address`: those have their own. Default: none. */
  readonly archive?: OpenSearchArchiveOptions | undefined;
}

let current: Streaming | undefined;

/**
 * Sets streams up, once, when the process starts: afterwards `StreamContext.create` writes, and `sseResponse` answers.
 * Close what it returns at the end. Throws `invalid-argument` unless exactly one of `server`, `log`, `data`, `redis`
 * and `address` is given.
 */
export async function initStreaming(options: StreamingOptions): Promise<Streaming> {
  const given = (['server', 'log', 'data', 'redis', 'address'] as const).filter((name) => options[name] !== undefined);
  if (given.length !== 1)
    throw new HubError(
      'invalid-argument',
      `initStreaming needs one of server, log, data, redis, address; given: ${given.join(', ') || 'none'}`,
    );
  if (current) throw new HubError('invalid-argument', 'initStreaming was called before; close that one first');
  if (options.archive && (options.server ?? options.address) !== undefined)
    throw new HubError(
      'invalid-argument',
      'initStreaming: archive belongs to log, data or redis; a server has its own',
    );
  const closers: (() => Promise<unknown>)[] = [];
  let log = options.server?.log ?? options.log;
  let { leases } = options.server ?? {};
  let leaseStore: LeaseStore | undefined;
  const search = options.archive && (await import('../../opensearch/index.ts'));
  const archive = options.archive && search?.openSearchArchive(options.archive);
  if (archive) closers.push(() => archive.close());
  if (options.data !== undefined) {
    const store = await openSqlite({ directory: options.data });
    closers.push(() => store.close());
    log = store.log;
  }
  if (options.redis !== undefined) {
    const { openRedis } = await import('../../redis/index.ts');
    const store = await openRedis(typeof options.redis === 'string' ? { url: options.redis } : options.redis);
    closers.push(() => store.close());
    log = store.log;
    leaseStore = store.leases;
  }
  if (search && archive && log) log = search.archivedLog(log, archive);
  let sink = log && logSink(log);
  if (options.address !== undefined) {
    const { hubClients } = await import('../../grpc/hub-clients.ts');
    const hub = hubClients({ address: options.address, token: options.token });
    closers.push(() => hub.close());
    sink = remoteSink(hub.events);
  } else if (!leases || options.lease) {
    const own = new StreamLeases({ ...options.lease, store: leaseStore });
    leases = own;
    closers.push(() => own.close());
  }
  const before = setStreamSink(sink);
  closers.push(async () => {
    setStreamSink(before);
    current = undefined;
  });
  current = new Streaming({
    log,
    leases,
    channel: options.channel,
    async close() {
      for (const close of closers.reverse()) await close();
    },
  });
  return current;
}

/** What `initStreaming` has set up. Throws `unavailable` before that. */
export function streaming(): Streaming {
  if (!current)
    throw new HubError('unavailable', 'streams are not set up: call initStreaming(...) when this process starts');
  return current;
}

/** As `Streaming.sseResponse`, of what `initStreaming` has set up. */
export const sseResponse = (stream: StreamContext | string, options?: SseOptions): Promise<Response> =>
  streaming().sseResponse(stream, options);

/** As `Streaming.sseResponseWithLease`. */
export const sseResponseWithLease = (
  stream: StreamContext | string,
  userId: string,
  options?: SseOptions,
): Promise<Response> => streaming().sseResponseWithLease(stream, userId, options);

/** As `Streaming.directSseResponse`. */
export const directSseResponse = (source: AsyncIterable<unknown>, options?: DirectSseOptions): Promise<Response> =>
  streaming().directSseResponse(source, options);
