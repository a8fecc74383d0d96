import { Client, type ClientOptions } from '@opensearch-project/opensearch';
import { AwsSigv4Signer } from '@opensearch-project/opensearch/aws';
import { HubError, toHubError } from '../errors.ts';
import type { ArchivedEvent, ArchiveQuery, EventArchive } from '../events/event-archive.ts';
import { Backoff } from '../flow/backoff.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { uniqueId } from '../flow/unique-id.ts';

/** Who one is at OpenSearch. */
export type OpenSearchAuth =
  | { readonly kind: 'none' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly kind: 'aws';
      readonly region: string;
      readonly credentials: () => Promise<{ accessKeyId: string; secretAccessKey: string; sessionToken?: string }>;
    };

export interface OpenSearchArchiveOptions {
  /** `https://host:9200`. */
  readonly node: string;
  readonly auth?: OpenSearchAuth | undefined;
  /** Begins the names of data stream, template and policy. Default: `stream_events`. */
  readonly indexPrefix?: string | undefined;
  /** Events are forgotten after so many days. Default: 30. */
  readonly keepDays?: number | undefined;
  /** Events that may wait to be sent; more are dropped, and that is told. Default: 10,000. */
  readonly maxWaiting?: number | undefined;
  /** Bytes that may wait. Default: 16 MiB. */
  readonly maxWaitingBytes?: number | undefined;
  /** Events are sent after so many ms at the latest. Default: 1000. */
  readonly flushMs?: number | undefined;
  /** Events of one bulk request. Default: 500. */
  readonly bulkSize?: number | undefined;
  /** A request without an answer after so many ms is made again. Default: 10,000. */
  readonly timeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly observe?: ((fact: ArchiveFact) => void) | undefined;
}

/** What the archive tells about itself. */
export type ArchiveFact =
  /** Events did not get in, because too many waited or OpenSearch refused them: they are in the log, and not in the archive. */
  | { readonly kind: 'archive-dropped'; readonly count: number; readonly reason: string }
  /** It could not be reached, or refused; it is tried again. */
  | { readonly kind: 'archive-failed'; readonly operation: string; readonly error: HubError };

/** An archive that has to be handed its events. */
export interface OpenSearchArchive extends EventArchive {
  /** Takes an event over. Never waits and never throws: beyond the limits the event is dropped, and that is told. */
  keep(event: Omit<ArchivedEvent, 'epoch' | 'seq'> & { readonly tenant: string }): void;
  /** Resolves once nothing waits, or nothing more can be sent now. */
  flush(): Promise<void>;
}

/** Keeps events in an OpenSearch data stream, by bulk requests of its own; what is found appears there after its refresh. */
export function openSearchArchive(options: OpenSearchArchiveOptions): OpenSearchArchive {
  const { indexPrefix = 'stream_events', keepDays = 30, maxWaiting = 10_000, maxWaitingBytes = 16 * 2 ** 20 } = options;
  const {
    flushMs = 1000,
    bulkSize = 500,
    timeoutMs = 10_000,
    clock = systemClock,
    observe = () => undefined,
  } = options;
  if (!/^[a-z0-9][a-z0-9_.-]{0,100}$/.test(indexPrefix))
    throw new HubError(
      'invalid-argument',
      `index prefix "${indexPrefix}": lower case letters, digits and _ . - are asked for`,
    );
  const client = new Client(clientOptions(options, timeoutMs));
  const stream = `${indexPrefix}-events`;
  const waiting: { line: string; bytes: number }[] = [];
  let waitingBytes = 0;
  let dropped = 0;
  let isClosed = false;
  let isPrepared = false;
  let flushing: Promise<void> | undefined;
  let letGo: (() => void) | undefined;

  const ask = async (
    method: string,
    path: string,
    content: { body?: object; bulkBody?: string } = {},
  ): Promise<Record<string, unknown>> => {
    const { body } = await client.transport.request({ method, path, ...(content as object) });
    return body as Record<string, unknown>;
  };

  /** Template first: a stream that is made by its first event takes its mapping from there. */
  const prepare = async (): Promise<void> => {
    if (isPrepared) return;
    await ask('PUT', `/_index_template/${indexPrefix}`, { body: template(stream) });
    try {
      await ask('PUT', `/_plugins/_ism/policies/${indexPrefix}`, { body: policy(stream, keepDays) });
    } catch (error) {
      // It is there already (409), or this OpenSearch has no such plugin: events are kept until somebody deletes them.
      if (statusOf(error) !== 409)
        observe({ kind: 'archive-failed', operation: 'set the retention policy', error: troubleOf(error) });
    }
    isPrepared = true;
  };

  const tellDropped = (): void => {
    if (dropped === 0) return;
    observe({
      kind: 'archive-dropped',
      count: dropped,
      reason: 'too many events wait for OpenSearch, or it refuses them',
    });
    dropped = 0;
  };

  const flushAll = async (): Promise<void> => {
    const backoff = new Backoff({ minMs: 100, maxMs: 10_000 });
    while (waiting.length > 0) {
      const batch = waiting.slice(0, bulkSize);
      try {
        await prepare();
        const answer = await ask('POST', `/${stream}/_bulk`, { bulkBody: batch.map(({ line }) => line).join('') });
        const refused = refusedOf(answer);
        if (refused.again) throw new HubError('unavailable', 'OpenSearch has too much to do', { retryAfterMs: 1000 });
        waiting.splice(0, batch.length);
        for (const { bytes } of batch) waitingBytes -= bytes;
        if (refused.count > 0) observe({ kind: 'archive-dropped', count: refused.count, reason: refused.reason });
        backoff.reset();
      } catch (error) {
        observe({ kind: 'archive-failed', operation: 'send events', error: troubleOf(error) });
        // The same request would be refused again, and for ever.
        if ([400, 413].includes(statusOf(error))) {
          waiting.splice(0, batch.length);
          for (const { bytes } of batch) waitingBytes -= bytes;
          dropped += batch.length;
        }
        tellDropped();
        if (isClosed) break;
        await new Promise<void>((resolve) => clock.after(backoff.next(), resolve));
      }
    }
    tellDropped();
  };
  const flush = (): Promise<void> => {
    letGo?.();
    letGo = undefined;
    flushing ??= flushAll().finally(() => {
      flushing = undefined;
    });
    return flushing;
  };

  return {
    keep({ tenant, channel, type, atMs, data }) {
      // Its id makes a bulk request that is sent again add nothing.
      const id = uniqueId();
      const document = { '@timestamp': new Date(atMs).toISOString(), id, tenant, channel, type, data };
      const line = `${JSON.stringify({ create: { _id: id } })}\n${JSON.stringify(document)}\n`;
      const bytes = line.length * 2;
      if (isClosed || waiting.length >= maxWaiting || waitingBytes + bytes > maxWaitingBytes) {
        dropped++;
        return;
      }
      waiting.push({ line, bytes });
      waitingBytes += bytes;
      if (waiting.length >= bulkSize) void flush();
      else letGo ??= clock.after(flushMs, () => void flush());
    },
    flush,
    async query(query) {
      if (query.channels?.length === 0) return { events: [], next: undefined };
      try {
        const answer = await ask('POST', `/${stream}/_search`, { body: searchOf(query) });
        return pageOf(answer, query.limit);
      } catch (error) {
        if (error instanceof HubError) throw error;
        // Nothing was ever kept.
        if (statusOf(error) === 404) return { events: [], next: undefined };
        throw troubleOf(error);
      }
    },
    async close() {
      isClosed = true;
      await flush();
      await client.close();
    },
  };
}

function clientOptions(
  { node, auth = { kind: 'none' } }: OpenSearchArchiveOptions,
  requestTimeout: number,
): ClientOptions {
  const common = { node, requestTimeout, maxRetries: 0 };
  switch (auth.kind) {
    case 'none':
      return common;
    case 'basic':
      return { ...common, auth: { username: auth.username, password: auth.password } };
    case 'aws':
      return {
        ...AwsSigv4Signer({ region: auth.region, service: 'es', getCredentials: auth.credentials as never }),
        ...common,
      };
    default:
      return auth satisfies never;
  }
}

const template = (stream: string): object => ({
  index_patterns: [stream],
  data_stream: {},
  template: {
    mappings: {
      dynamic: false,
      properties: {
        '@timestamp': { type: 'date' },
        id: { type: 'keyword' },
        tenant: { type: 'keyword' },
        channel: { type: 'keyword' },
        type: { type: 'keyword' },
        // Looked through as one text; what is longer is kept and not found by it.
        data: { type: 'keyword', ignore_above: 8191 },
      },
    },
  },
});

const policy = (stream: string, keepDays: number): object => ({
  policy: {
    description: 'Forgets events of Signalbox',
    default_state: 'kept',
    states: [
      {
        name: 'kept',
        actions: [{ rollover: { min_index_age: '1d' } }],
        transitions: [{ state_name: 'over', conditions: { min_index_age: `${keepDays}d` } }],
      },
      { name: 'over', actions: [{ delete: {} }], transitions: [] },
    ],
    ism_template: [{ index_patterns: [`.ds-${stream}-*`], priority: 100 }],
  },
});

function searchOf({ tenant, channels, types, fromMs, toMs, text, limit, after }: ArchiveQuery): object {
  const filter: object[] = [{ term: { tenant } }];
  if (channels)
    filter.push({
      bool: {
        should: channels.map((channel) =>
          channel.endsWith('*') ? { prefix: { channel: channel.slice(0, -1) } } : { term: { channel } },
        ),
        minimum_should_match: 1,
      },
    });
  if (types) filter.push({ terms: { type: types } });
  if (fromMs !== undefined || toMs !== undefined) {
    const range = { ...(fromMs !== undefined && { gte: fromMs }), ...(toMs !== undefined && { lt: toMs }) };
    filter.push({ range: { '@timestamp': { ...range, format: 'epoch_millis' } } });
  }
  if (text) {
    const value = `*${text.replaceAll(/[\\*?]/g, '\\$&')}*`;
    filter.push({ wildcard: { data: { value, case_insensitive: true } } });
  }
  return {
    size: limit,
    query: { bool: { filter } },
    sort: [{ '@timestamp': 'desc' }, { id: 'desc' }],
    ...(after !== undefined && { search_after: placeOf(after) }),
  };
}

function placeOf(after: string): unknown[] {
  try {
    const place = JSON.parse(Buffer.from(after, 'base64url').toString()) as unknown;
    if (Array.isArray(place) && typeof place[0] === 'number' && typeof place[1] === 'string' && place.length === 2)
      return place;
  } catch {
    // said below
  }
  throw new HubError('invalid-argument', `after ${JSON.stringify(after.slice(0, 100))} is not of this archive`);
}

interface Hit {
  readonly _source: { '@timestamp': string; channel: string; type: string; data: string };
  readonly sort: unknown[];
}

function pageOf(answer: Record<string, unknown>, limit: number) {
  const hits = ((answer.hits as { hits?: Hit[] } | undefined)?.hits ?? []) as Hit[];
  const events = hits.map(({ _source: { '@timestamp': at, channel, type, data } }) => ({
    channel,
    type,
    atMs: Date.parse(at),
    data,
  }));
  const last = hits.length === limit ? hits.at(-1) : undefined;
  return { events, next: last && Buffer.from(JSON.stringify(last.sort)).toString('base64url') };
}

/** What of a bulk request was refused for good, and whether to send it again. */
function refusedOf(answer: Record<string, unknown>): { count: number; reason: string; again: boolean } {
  let [count, reason, again] = [0, '', false];
  if (answer.errors !== true) return { count, reason, again };
  for (const { create } of (answer.items ?? []) as { create: { status: number; error?: { reason?: string } } }[]) {
    if (create.status < 300 || create.status === 409) continue; // 409: it was kept the first time
    if (create.status === 429 || create.status >= 500) again = true;
    count++;
    reason = create.error?.reason ?? `status ${create.status}`;
  }
  return { count, reason: `OpenSearch refused them: ${reason}`.slice(0, 500), again };
}

const statusOf = (error: unknown): number => Number((error as { statusCode?: unknown }).statusCode ?? 0);

function troubleOf(error: unknown): HubError {
  if (error instanceof HubError) return error;
  return new HubError('unavailable', `OpenSearch: ${toHubError(error).message.slice(0, 300)}`, { cause: error });
}
