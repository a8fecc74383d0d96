import type { ClientOptions } from '@opensearch-project/opensearch';
import { AwsSigv4Signer } from '@opensearch-project/opensearch/aws';
import type { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';

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
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  readonly observe?: ((fact: ArchiveFact) => void) | undefined;
}

/** What the archive tells about itself. */
export type ArchiveFact =
  /** Events did not get in, because too many waited or OpenSearch refused them: they are in the log, and not in the archive. */
  | { readonly kind: 'archive-dropped'; readonly count: number; readonly reason: string }
  /** It could not be reached, or refused; it is tried again. */
  | { readonly kind: 'archive-failed'; readonly operation: string; readonly error: HubError };

/** As the client of OpenSearch takes them. */
export function clientOptions(
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
