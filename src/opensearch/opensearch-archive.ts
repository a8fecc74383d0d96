import { Client } from '@opensearch-project/opensearch';
import { HubError } from '../errors.ts';
import type { EventArchive } from '../events/event-archive.ts';
import { systemClock } from '../flow/clock.ts';
import { BulkSender, type KeptEvent } from './bulk-sender.ts';
import { clientOptions, type OpenSearchArchiveOptions } from './options.ts';
import { pageOf, policy, searchOf, statusOf, template, troubleOf } from './requests.ts';

/** An archive that has to be handed its events. */
export interface OpenSearchArchive extends EventArchive {
  /** Takes an event over. Never waits and never throws: beyond the limits the event is dropped, and that is told. */
  keep(event: KeptEvent): void;
  /** Resolves once nothing waits, or nothing more can be sent now. */
  flush(): Promise<void>;
}

/** Keeps events in an OpenSearch data stream, by bulk requests of its own; what is found appears there after its refresh. */
export function openSearchArchive(options: OpenSearchArchiveOptions): OpenSearchArchive {
  const { indexPrefix = 'stream_events', keepDays = 30, timeoutMs = 10_000, observe = () => undefined } = options;
  if (!/^[a-z0-9][a-z0-9_.-]{0,100}$/.test(indexPrefix))
    throw new HubError(
      'invalid-argument',
      `index prefix "${indexPrefix}": lower case letters, digits and _ . - are asked for`,
    );
  const client = new Client(clientOptions(options, timeoutMs));
  const stream = `${indexPrefix}-events`;
  let isPrepared = false;
  let closing: Promise<void> | undefined;

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

  const sender = new BulkSender({
    maxWaiting: options.maxWaiting ?? 10_000,
    maxWaitingBytes: options.maxWaitingBytes ?? 16 * 2 ** 20,
    flushMs: options.flushMs ?? 1000,
    bulkSize: options.bulkSize ?? 500,
    clock: options.clock ?? systemClock,
    observe,
    async send(bulkBody) {
      await prepare();
      return ask('POST', `/${stream}/_bulk`, { bulkBody });
    },
  });

  return {
    keep: (event) => sender.keep(event),
    flush: () => sender.flush(),
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
    close() {
      closing ??= sender.close().then(() => client.close());
      return closing;
    },
  };
}
