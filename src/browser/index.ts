export type { BackoffOptions } from './backoff.ts';
export type { WatchClock } from './clock.ts';
export { EventWatcher } from './event-watcher.ts';
export { HubProblem, type ProblemDetails } from './problem.ts';
export type { RequestOptions } from './requests.ts';
export { type SseMessage, SseParser, type SseParserOptions } from './sse-parser.ts';
export { type Watch, type WatchOptions, watch, watchEvents } from './watch.ts';
export type {
  EventsOptions,
  GetToken,
  HubEvent,
  HubGap,
  HubReset,
  WatchItem,
  WatchState,
} from './watch-types.ts';
