import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { ChannelKey } from './channels.ts';
import type { EventLog, LogEvent, Position } from './event-log.ts';
import { EventReader } from './event-reader.ts';
import { GapNotice } from './gap-notice.ts';

export interface WatchOptions {
  /** Channel keys (`tenant/name`). */
  readonly channels: readonly ChannelKey[];
  /** A cursor to go on after, or `start` for all that is kept. Default: what happens from now on. */
  readonly from?: string | undefined;
  /** Ends the watching. */
  readonly signal?: AbortSignal | undefined;
  /** Most events read at once. Default: 100. */
  readonly pageSize?: number | undefined;
  readonly clock?: Clock | undefined;
}

/** An event, or a `hub.gap` / `hub.reset` (a `GapNotice`) where events are missing. */
export interface WatchedEvent {
  readonly event: LogEvent;
  /** To go on after this event. */
  readonly cursor: string;
}

/**
 * What happens in some channels: first what was kept after the cursor, then live, as one stream. Nothing is missing
 * without a notice. A log that cannot be read for now (`unavailable` with `retryAfterMs`) is waited for. Ends when
 * `signal` aborts or the loop is left. Watching begins with this call, so iterate it (once) or abort `signal`.
 */
export function watchEvents(log: EventLog, options: WatchOptions): AsyncIterableIterator<WatchedEvent> {
  const { channels, from, signal, pageSize = 100, clock = systemClock } = options;
  let wake: () => void = () => undefined;
  let isStopped = false;
  const reader = new EventReader(log, { channels, from, onWake: () => wake() });
  const stop = () => {
    isStopped = true;
    reader.close();
    signal?.removeEventListener('abort', stop);
    wake();
  };
  if (signal?.aborted) stop();
  else signal?.addEventListener('abort', stop);

  const pollOrWait = async (woken: Promise<void>): Promise<readonly LogEvent[]> => {
    try {
      return await reader.poll(pageSize);
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== 'unavailable' || error.retryAfterMs === undefined) throw error;
      const { retryAfterMs } = error;
      let letGo: () => void = () => undefined;
      const rested = new Promise<void>((resolve) => {
        letGo = clock.after(retryAfterMs, resolve);
      });
      await Promise.race([rested, woken]);
      letGo();
      return [];
    }
  };

  async function* watch(): AsyncGenerator<WatchedEvent, void, undefined> {
    try {
      while (!isStopped) {
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const positions = reader.positions();
        const events = await pollOrWait(woken);
        for (const [i, event] of events.entries()) {
          if (isStopped) return;
          const channel = reader.channels.indexOf(event.channel);
          positions[channel] = after(event, positions[channel]!);
          yield { event, cursor: i === events.length - 1 ? reader.cursor() : reader.encode(positions) };
        }
        if (!reader.mayHaveMore && !isStopped) await woken;
      }
    } finally {
      stop();
    }
  }
  const events = watch();
  return {
    next: () => events.next(),
    // A generator's own `return` would wait for what it waits for.
    return() {
      stop();
      return events.return();
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

function after(event: LogEvent, before: Position): Position {
  // A reset that was all somebody saw is told again.
  return event instanceof GapNotice && event.gap.kind === 'reset' ? before : { epoch: event.epoch, seq: event.seq };
}
