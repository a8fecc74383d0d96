import type { CommandClient, CommandClientOptions } from '../commands/index.ts';
import type { ServiceDefinition } from '../protocol/service-definition.ts';
import type { OutputOf, StandardSchema } from './standard-schema.ts';
import type { LogLevel, StreamContext } from './stream-context.ts';

/** Events of a task by name, each with the schema of its data. */
export type EventSchemas = Readonly<Record<string, StandardSchema>>;

type DataOf<S> = S extends StandardSchema<infer Input, infer _> ? Input : OutputOf<S>;

/**
 * What a running task has in hand. Everything it tells goes to the run's channel, in order, and is kept. No promise has to be
 * waited for: the run is not over before they are. What is no JSON, or over 1 MiB of it, is refused with `invalid-argument`, and
 * an event that is refused fails the run. After its claim was lost, or the run has ended, all is refused with `task-cancelled`.
 */
export interface TaskContext<Events extends EventSchemas = EventSchemas> {
  readonly runId: string;
  readonly task: string;
  readonly tenant: string;
  readonly owner: string | undefined;
  /** 1 for the first try; grows with each claim of the run. */
  readonly attempt: number;
  /** Aborted when the run is cancelled, its time is over, its worker closes, or its claim is lost. */
  readonly signal: AbortSignal;
  /** What `checkpoint` kept last, in this attempt or one before; undefined: nothing. */
  readonly lastCheckpoint: unknown;
  /**
   * The same stream as an object, for code that takes a `StreamContext`. It is written over the run's worker alone, which knows
   * whose run it is: made of JSON in another process it is refused with `permission-denied`, and that needs a stream of its own.
   */
  readonly stream: StreamContext;
  /** An event of the task's own, checked by its schema if `events` has one. Resolves once it is kept. */
  emit<Name extends keyof Events & string>(type: Name, data: DataOf<Events[Name]>): Promise<void>;
  /** A line for people. `level`: `debug`, `info` (the default), `warning` or `error`. */
  log(message: string, level?: LogLevel): Promise<void>;
  /** How far it is. `percent`: 0 to 100, what is beyond is cut off. */
  progress(percent: number, step?: string, message?: string): Promise<void>;
  /** Whatever else there is to tell. */
  data(data: unknown): Promise<void>;
  /** Tells of an error that the task goes on after. */
  error(message: string, details?: unknown): Promise<void>;
  /**
   * Tells what a source yields, as `data` events: texts are joined over `rollUpMs` (default 40, at most 500, 0 for none)
   * and returned as one, other things go one by one. Rejects with what the source throws, which fails the run unless the
   * task catches it.
   */
  pipe(source: AsyncIterable<unknown> | Iterable<unknown>, options?: { rollUpMs?: number }): Promise<string>;
  /**
   * A device as an object, over the hub of the worker's process (also from a thread or process of its own), or over the
   * one that `SIGNALBOX_ADDRESS` names where the worker has none. Options as of `commandClient`.
   */
  commands<D extends ServiceDefinition>(definition: D, options: CommandClientOptions): CommandClient<D>;
  /** Keeps where the work stands, for the attempt after a crash or failure: JSON, at most 1 MiB. Resolves once it is on disk. */
  checkpoint(state: unknown): Promise<void>;
}
