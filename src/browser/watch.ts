import { EventWatcher } from './event-watcher.ts';
import { HubProblem } from './problem.ts';
import type { EventsOptions, HubEvent, HubGap, HubReset, WatchState } from './watch-types.ts';

export interface WatchOptions extends EventsOptions {
  /** Hears of each event, once and in order. */
  onEvent: (event: HubEvent) => void;
  /** Hears that some events were not kept. */
  onGap: (gap: HubGap) => void;
  /** Hears that a channel's numbering began anew. Default: taken as a gap of everything, told to `onGap`. */
  onReset?: (reset: HubReset) => void;
}

/** Channels that are being watched. */
export interface Watch {
  /** Ends it. May be called twice. */
  close(): void;
  /** Where to go on later; undefined before the first word from the hub. */
  readonly cursor: string | undefined;
  readonly state: WatchState;
  /** Resolves when it is over; rejects with the `HubProblem` (or what a listener threw) that ended it. */
  readonly done: Promise<void>;
}

/**
 * Watches channels of a hub, and keeps at it: reconnects with full jitter and resumes where it was, so that each event
 * comes once and in order, or `onGap`/`onReset` says what is missing.
 */
export function watch(options: WatchOptions): Watch {
  const { onEvent, onGap, onReset = asGap(onGap) } = options;
  const watcher = watchEvents(options);
  const done = (async () => {
    for await (const item of watcher) {
      switch (item.kind) {
        case 'event':
          onEvent(item.event);
          break;
        case 'gap':
          onGap(item.gap);
          break;
        case 'reset':
          onReset(item.reset);
          break;
        default:
          item satisfies never;
      }
    }
  })();
  // Who listens to states hears of a problem there; for others it stays an unhandled rejection, and so is heard of.
  if (options.onState !== undefined) done.catch((error) => error instanceof HubProblem || reportError(error));
  return {
    close: () => watcher.close(),
    get cursor() {
      return watcher.cursor;
    },
    get state() {
      return watcher.state;
    },
    done,
  };
}

/** The same as an async iterable of events, gaps and resets. It reads no faster than the loop takes. */
export function watchEvents(options: EventsOptions): EventWatcher {
  const { channels } = options;
  if (channels.length === 0)
    throw new HubProblem('channels is empty; name at least one to watch', { code: 'invalid-argument', status: 0 });
  const from: [string, string][] = options.from === undefined ? [] : [['from', options.from]];
  const query = new URLSearchParams(channels.map((channel): [string, string] => ['channel', channel]).concat(from));
  return new EventWatcher(`/v1/events?${query}`, options);
}

function asGap(onGap: (gap: HubGap) => void) {
  return ({ channel = '' }: HubReset) => onGap({ channel, epoch: 0, from: 0, to: 0 });
}

/** What a listener threw is not ours to keep quiet about. */
function reportError(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
