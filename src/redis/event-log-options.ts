import type { EventTailOptions } from '../events/event-tail.ts';
import type { RedisConnection } from './connection.ts';
import type { RedisSubscriber } from './subscriber.ts';

export interface RedisEventLogOptions {
  /** Stays its owner's. */
  readonly connection: RedisConnection;
  /** Brings wake-ups; without them all is seen with the next sweep. Stays its owner's. */
  readonly subscriber: RedisSubscriber;
  /**
   * What becomes of events that are not durable (updates of live commands, presence): kept while somebody on any node
   * watches their channel, or always. Default: `watched`.
   */
  readonly keepVolatile?: 'watched' | 'always' | undefined;
  /** Events kept per channel. Default: 10,000. */
  readonly maxEvents?: number | undefined;
  /** Bytes of data kept per channel. Default: 16 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** Events older than this are forgotten, in ms. Default: 7 days. */
  readonly maxEventAgeMs?: number | undefined;
  /** The same for channels of commands, and for channels without events. Default: 24 hours. */
  readonly maxCommandAgeMs?: number | undefined;
  /** Bytes kept in all channels together; beyond it the quietest are forgotten. Default: 512 MiB. */
  readonly maxTotalBytes?: number | undefined;
  /** Channels kept; beyond it the quietest are forgotten. Default: 1,000,000. */
  readonly maxChannels?: number | undefined;
  /** Producers remembered per channel. Default: 64. */
  readonly maxProducers?: number | undefined;
  /** How often is looked for what no wake-up told, in ms. Default: 750. */
  readonly sweepMs?: number | undefined;
  /** How long a channel stays watched after its last reader, in ms. Default: 30,000. */
  readonly interestMs?: number | undefined;
  /** Updates of commands whose channels nobody watches, in the memory of the node that has the command. */
  readonly memory?: Omit<EventTailOptions, 'clock'> | undefined;
  /** Replicas that have to confirm a durable event. Default: 0. */
  readonly replicas?: number | undefined;
  /** A connection for appends that wait for replicas; stays its owner's. Default: `connection`. */
  readonly writing?: RedisConnection | undefined;
  /** Events, and bytes of them, that may wait for Redis; beyond it they are refused. Default: 50,000 and 64 MiB. */
  readonly maxWaitingEvents?: number | undefined;
  readonly maxWaitingBytes?: number | undefined;
  /** Parts that channels are spread over; the same for all who ever use this Redis. Default: 64. */
  readonly shards?: number | undefined;
}

/** The limits, filled in, as the scripts take them. */
export function eventLimits(options: RedisEventLogOptions, shards: number) {
  const {
    maxEvents = 10_000,
    maxEventBytes = 16 * 2 ** 20,
    maxEventAgeMs = 7 * 24 * 3600_000,
    maxCommandAgeMs = 24 * 3600_000,
    maxTotalBytes = 512 * 2 ** 20,
    maxProducers = 64,
    maxChannels = 1_000_000,
    maxWaitingEvents = 50_000,
    maxWaitingBytes = 64 * 2 ** 20,
  } = options;
  const each = (whole: number) => Math.max(1, Math.ceil(whole / shards));
  return {
    maxEventAgeMs,
    maxCommandAgeMs,
    appendLimits: [maxEvents, maxEventBytes, maxEventAgeMs, maxCommandAgeMs, each(maxTotalBytes), maxProducers],
    maxChannels: each(maxChannels),
    maxWaitingSteps: each(maxWaitingEvents),
    maxWaitingBytes: each(maxWaitingBytes),
  };
}
