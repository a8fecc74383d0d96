export { doneData } from './announcer.ts';
export { defineTask, isTask, type Task, type TaskInput, type TaskOutput } from './define-task.ts';
export type { TaskFact } from './facts.ts';
export { logSink } from './log-sink.ts';
export { memoryRunStore } from './memory-run-store.ts';
export { type RollUpOptions, rollUp } from './roll-up.ts';
export {
  isTerminalRun,
  type Run,
  type RunConcurrency,
  type RunError,
  type RunState,
  runChannel,
  type TerminalRunState,
  userChannel,
  type WhenFull,
} from './run.ts';
export {
  conflictMessage,
  isSameRun,
  keyFullMessage,
  limitKey,
  newestReason,
  queueFullMessage,
  supersededReason,
} from './run-rules.ts';
export type {
  AddRunOutcome,
  AttemptEnd,
  Claim,
  Claimed,
  ClaimRequest,
  NewRun,
  RenewOutcome,
  RunFilter,
  RunStore,
} from './run-store.ts';
export type { StandardSchema } from './standard-schema.ts';
export { type LogLevel, StreamContext, type StreamContextFields, type StreamContextJson } from './stream-context.ts';
export { type StreamEvent, type StreamSink, setStreamSink } from './stream-sink.ts';
export type { EventSchemas, TaskContext } from './task-context.ts';
export { type EngineWorker, type PollingEngineOptions, pollingEngine, type TaskEngine } from './task-engine.ts';
export { TaskHandle, type WatchRunOptions } from './task-handle.ts';
export type { ConcurrencyOptions, Isolation, RetryOptions, TimeoutOptions } from './task-options.ts';
export { Tasks } from './tasks.ts';
export type { TasksOptions } from './tasks-options.ts';
export type { TriggerOptions } from './trigger-options.ts';
