import { onTestFinished } from 'vitest';
import { RedisConnection } from '../../src/redis/connection.ts';
import type { RedisEventLogOptions, RedisFact } from '../../src/redis/index.ts';
import { openRedisEventLog, type RedisEventLog } from '../../src/redis/redis-event-log.ts';
import { RedisSubscriber } from '../../src/redis/subscriber.ts';

export interface NodeOptions extends Partial<RedisEventLogOptions> {
  readonly url: string;
  readonly prefix: string;
  /** Where wake-ups come from. Default: `url`. */
  readonly subscriberUrl?: string;
  readonly timeoutMs?: number;
  readonly observe?: (fact: RedisFact) => void;
}

/** The log of one node, closed with the test. */
export async function openNode(options: NodeOptions): Promise<RedisEventLog> {
  const { url, subscriberUrl = url, prefix, timeoutMs, observe, ...rest } = options;
  const connection = await RedisConnection.open({ url, prefix, timeoutMs, observe });
  onTestFinished(() => connection.close());
  const other = subscriberUrl === url ? connection : await RedisConnection.open({ url: subscriberUrl, prefix });
  onTestFinished(() => other.close());
  const subscriber = new RedisSubscriber(other);
  onTestFinished(() => subscriber.close());
  const log = await openRedisEventLog({ connection, subscriber, ...rest });
  onTestFinished(() => log.close());
  return log;
}
