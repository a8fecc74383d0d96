import { toHubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { RedisConnection } from './connection.ts';

/** The time of Redis, as a clock. */
export interface SharedClock extends Clock {
  close(): void;
}

/** How often the clocks are compared, in ms. */
const compareEveryMs = 10_000;

/**
 * One wall clock for all nodes: that of Redis. Times to live are counted by it, so that a node whose own clock is wrong
 * lets nothing expire too early or too late. It is compared now and then, and runs on by the node's own clock between,
 * and while Redis is away. Rejects with `unavailable` when Redis cannot be asked the first time.
 */
export async function openSharedClock(connection: RedisConnection, own: Clock = systemClock): Promise<SharedClock> {
  let aheadMs = 0;
  let letGo = (): void => undefined;
  let isClosed = false;
  const compare = async (): Promise<void> => {
    const asked = own.monotonic();
    const [seconds, micros] = (await connection.call('TIME', [])) as [Buffer, Buffer];
    const tookMs = own.monotonic() - asked;
    // The answer was made somewhere between; a slow one says little.
    const there = Number(seconds) * 1000 + Number(micros) / 1000 + tookMs / 2;
    if (tookMs < 1000) aheadMs = Math.round(there - own.now());
  };
  const compareSoon = (): void => {
    letGo = own.after(compareEveryMs, () => {
      compare()
        .catch((cause: unknown) => connection.settings.observe({ kind: 'redis-trouble', error: toHubError(cause) }))
        .finally(() => isClosed || compareSoon());
    });
  };
  await compare();
  compareSoon();
  return {
    now: () => own.now() + aheadMs,
    monotonic: () => own.monotonic(),
    after: (ms, run) => own.after(ms, run),
    close() {
      isClosed = true;
      letGo();
    },
  };
}
