import { HubError } from '../../errors.ts';
import type { EventArchive } from '../../events/event-archive.ts';
import type { EventLog } from '../../events/event-log.ts';
import { type LeaseStore, StreamLeases } from '../../leases/index.ts';
import type { OpenSearchArchiveOptions } from '../../opensearch/index.ts';
import type { RedisOptions } from '../../redis/index.ts';
import { openSqlite } from '../../sqlite/index.ts';
import { checkKeys } from '../../tasks/check-keys.ts';
import { logSink, setStreamSink } from '../../tasks/index.ts';
import type { SignalboxServer } from '../serve.ts';
import { remoteSink } from './remote-sink.ts';
import { type ChannelOptions, type DirectSseOptions, type SseOptions, Streaming, type StreamRef } from './streaming.ts';

export interface StreamingOptions {
  /** A hub in this process: its log and its leases are used. They stay its own. */
  readonly server?: Pick<SignalboxServer, 'log' | 'leases' | 'archive'> | undefined;
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

const homes = ['server', 'log', 'data', 'redis', 'address'] as const;
const keys = [...homes, 'token', 'lease', 'channel', 'archive'];

let current: Streaming | undefined;
/** From the call of `initStreaming` to the end of `close`. */
let isTaken = false;

/**
 * Sets streams up, once, when the process starts: afterwards `StreamContext.create` writes, and `sseResponse` answers.
 * Close what it returns at the end. Throws `invalid-argument` unless exactly one of `server`, `log`, `data`, `redis`
 * and `address` is given, and for an option that is none; `unavailable` where Redis cannot be reached.
 */
export async function initStreaming(options: StreamingOptions): Promise<Streaming> {
  checkOptions(options);
  if (isTaken) throw new HubError('invalid-argument', 'initStreaming was called before; close that one first');
  isTaken = true;
  const opened = new AsyncDisposableStack();
  opened.defer(() => {
    isTaken = false;
  });
  try {
    current = await open(options, opened);
    return current;
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function open(options: StreamingOptions, opened: AsyncDisposableStack): Promise<Streaming> {
  let log = options.server?.log ?? options.log;
  let { leases } = options.server ?? {};
  let leaseStore: LeaseStore | undefined;
  const search = options.archive && (await import('../../opensearch/index.ts'));
  const outside = options.archive && search?.openSearchArchive(options.archive);
  if (outside) opened.defer(() => outside.close());
  let archive: Pick<EventArchive, 'query'> | undefined = outside ?? options.server?.archive;
  if (options.data !== undefined) {
    const store = await openSqlite({ directory: options.data });
    opened.defer(() => store.close());
    log = store.log;
    archive ??= store.archive;
  }
  if (options.redis !== undefined) {
    const { openRedis } = await import('../../redis/index.ts');
    const store = await openRedis(typeof options.redis === 'string' ? { url: options.redis } : options.redis);
    opened.defer(() => store.close());
    log = store.log;
    leaseStore = store.leases;
  }
  if (search && outside && log) log = search.archivedLog(log, outside);
  let sink = log && logSink(log);
  if (options.address !== undefined) {
    const { hubClients } = await import('../../grpc/hub-clients.ts');
    const hub = hubClients({ address: options.address, token: options.token });
    opened.defer(() => hub.close());
    sink = remoteSink(hub.events);
  } else if (!leases || options.lease) {
    const own = new StreamLeases({ ...options.lease, store: leaseStore });
    leases = own;
    opened.defer(() => own.close());
  }
  const made = new Streaming({ log, leases, archive, channel: options.channel, close: () => opened.disposeAsync() });
  const { prefix: channelPrefix } = options.channel ?? {};
  const before = setStreamSink(sink && { ...sink, channelPrefix });
  opened.defer(() => {
    setStreamSink(before);
    current = undefined;
  });
  return made;
}

function checkOptions(options: StreamingOptions): void {
  checkKeys('initStreaming', options, keys);
  if (options.channel !== undefined)
    checkKeys('initStreaming: channel', options.channel, ['prefix', 'pingMs', 'idleLimitMs', 'retryMs']);
  if (options.lease !== undefined) checkKeys('initStreaming: lease', options.lease, ['limit', 'ttlMs']);
  const given = homes.filter((name) => options[name] !== undefined);
  if (given.length !== 1)
    throw new HubError(
      'invalid-argument',
      `initStreaming needs one of ${homes.join(', ')}; given: ${given.join(', ') || 'none'}`,
    );
  if (options.archive && (options.server ?? options.address) !== undefined)
    throw new HubError(
      'invalid-argument',
      'initStreaming: archive belongs to log, data or redis; a server has its own',
    );
}

/** What `initStreaming` has set up. Throws `unavailable` before that. */
export function streaming(): Streaming {
  if (!current)
    throw new HubError('unavailable', 'streams are not set up: call initStreaming(...) when this process starts');
  return current;
}

/** As `Streaming.sseResponse`, of what `initStreaming` has set up. */
export const sseResponse = (stream: StreamRef, options?: SseOptions): Promise<Response> =>
  streaming().sseResponse(stream, options);

/** As `Streaming.sseResponseWithLease`. */
export const sseResponseWithLease = (stream: StreamRef, userId: string, options?: SseOptions): Promise<Response> =>
  streaming().sseResponseWithLease(stream, userId, options);

/** As `Streaming.directSseResponse`. */
export const directSseResponse = (source: AsyncIterable<unknown>, options?: DirectSseOptions): Promise<Response> =>
  streaming().directSseResponse(source, options);
