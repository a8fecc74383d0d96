import { toHubError } from '../errors.ts';
import { type PollingEngineOptions, pollingEngine, type TaskEngine } from '../tasks/index.ts';
import type { RedisConnection } from './connection.ts';
import type { RedisSubscriber } from './subscriber.ts';

/** Without a hint the store is looked at this often, in ms. */
const pollMs = 2000;

/**
 * Brings runs to workers on all nodes: who triggers one tells all that there is something to look for. A hint that is
 * lost costs the time to the next look, at most two seconds.
 */
export function redisTaskEngine(
  connection: RedisConnection,
  subscriber: RedisSubscriber,
  options: PollingEngineOptions = {},
): TaskEngine {
  const channel = `${connection.prefix}:runs:hints`;
  const engine = pollingEngine({ pollMs, clock: connection.settings.clock, ...options });
  let releases: (() => void)[] = [];
  let isTelling = false;
  const tell = async (): Promise<void> => {
    isTelling = false;
    try {
      await connection.call('PUBLISH', [channel, '']);
    } catch (error) {
      connection.settings.observe({ kind: 'redis-trouble', error: toHubError(error) });
    }
  };
  const stop = async (): Promise<void> => {
    for (const release of releases.splice(0)) release();
    await engine.stop();
  };
  return {
    hint(run) {
      engine.hint();
      // That there is room again here is nobody else's concern.
      if (!run || isTelling) return;
      isTelling = true;
      setImmediate(() => void tell());
    },
    start(worker) {
      releases = [subscriber.subscribe(channel, () => engine.hint()), subscriber.onResumed(() => engine.hint())];
      engine.start(worker);
    },
    stop,
    close: stop,
  };
}
