export type { BackoffOptions } from './backoff.ts';
export { type Client, type ListClientsOptions, listClients } from './clients.ts';
export type { WatchClock } from './clock.ts';
export {
  type CancelCommandOptions,
  type CommandState,
  type CommandUpdate,
  cancelCommand,
  commandUpdates,
  isTerminal,
  type JsonPayload,
  type SendCommandOptions,
  sendCommand,
} from './commands.ts';
export { EventWatcher } from './event-watcher.ts';
export { HubProblem, type ProblemDetails } from './problem.ts';
export type { RequestOptions } from './requests.ts';
export { type SseMessage, SseParser, type SseParserOptions } from './sse-parser.ts';
export { eventSourceUrl, newTicket, type TicketUrlOptions } from './tickets.ts';
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
