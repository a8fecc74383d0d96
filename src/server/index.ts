export { type User, UserFile } from '../auth/index.ts';
export type { ArchivedEvent, ArchivePage, ArchiveQuery, EventArchive } from '../events/event-archive.ts';
export { optionNames } from './check-options.ts';
export type { Observe, OtherFact, ServerFact } from './facts.ts';
export { loadOptions, type OptionSources, variableOf } from './load-options.ts';
export type { LogDestination } from './logs.ts';
export type { ResolvedOptions, ServeOptions } from './options.ts';
export { type PresetName, presets, type Tuning } from './presets.ts';
export { resolveOptions } from './resolve-options.ts';
export { runUntilSignal, type SignalOutcome } from './run-until-signal.ts';
export { type ServeExtras, type SignalboxServer, serve } from './serve.ts';
export {
  directSseResponse,
  initStreaming,
  type StreamingOptions,
  sseResponse,
  sseResponseWithLease,
  streaming,
} from './streaming/init-streaming.ts';
export { sendResponse } from './streaming/send-response.ts';
export { SSEEmitter } from './streaming/sse-emitter.ts';
export {
  type ChannelOptions,
  type DirectSseOptions,
  type SseOptions,
  Streaming,
  type StreamRef,
} from './streaming/streaming.ts';
