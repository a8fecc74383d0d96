import { HubError, toHubError } from '../errors.ts';
import type { ArchiveQuery } from '../events/event-archive.ts';

// What is asked of OpenSearch, and what its answers mean.

export const template = (stream: string): object => ({
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

export const policy = (stream: string, keepDays: number): object => ({
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

export function searchOf({ tenant, channels, types, fromMs, toMs, text, limit, after }: ArchiveQuery): object {
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

export function pageOf(answer: Record<string, unknown>, limit: number) {
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
export function refusedOf(answer: Record<string, unknown>): { count: number; reason: string; again: boolean } {
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

/** The HTTP status of an error that the client threw; 0 for others. */
export const statusOf = (error: unknown): number => Number((error as { statusCode?: unknown }).statusCode ?? 0);

export function troubleOf(error: unknown): HubError {
  if (error instanceof HubError) return error;
  return new HubError('unavailable', `OpenSearch: ${toHubError(error).message.slice(0, 300)}`, { cause: error });
}
