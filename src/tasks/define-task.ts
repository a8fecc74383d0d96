import { HubError } from '../errors.ts';
import type { WhenFull } from './run.ts';
import type { StandardSchema } from './standard-schema.ts';
import type { EventSchemas, TaskContext } from './task-context.ts';

/** Where `run` runs. */
export type Isolation =
  /** In the worker's own event loop. */
  | 'inline'
  /** In a thread: work that needs the CPU blocks nobody. */
  | 'thread'
  /** In a process of its own: a crash or a leak harms nobody. */
  | 'process';

export interface RetryOptions {
  /** Attempts in all, the first one included. Default: 1. */
  readonly attempts?: number;
  /** Upper end of the first wait, in ms; it doubles with each attempt, and a random part of it is waited. Default: 1000. */
  readonly minMs?: number;
  /** Upper end that no wait exceeds, in ms. Default: 60,000. */
  readonly maxMs?: number;
  /** Whether trying again makes sense. Default: unless the error is a `HubError` `invalid-argument`. */
  readonly when?: (error: { readonly code: string; readonly message: string }) => boolean;
}

export interface TimeoutOptions {
  /** Most time of one attempt, in ms. Default: none. */
  readonly attemptMs?: number;
  /** Most time of the whole run from when it is due, waiting and all attempts included, in ms. Default: none. */
  readonly totalMs?: number;
  /** How long an attempt that was told to stop may take to do so, in ms. Default: 5000. */
  readonly graceMs?: number;
}

export interface ConcurrencyOptions<Value> {
  /** Runs with the same key share the limit. Default: all runs of the task. */
  readonly key?: string | ((input: Value) => string);
  /** Runs of one key at once. Default: 1. */
  readonly limit?: number;
  /** What happens to a run when as many are active. Default: `queue`. */
  readonly onFull?: WhenFull;
}

interface Shared<In extends StandardSchema, Events extends EventSchemas> {
  /** 1 to 64 of `A-Z a-z 0-9 . _ -`. Runs are kept under it: renaming a task leaves its waiting runs behind. */
  readonly id: string;
  /** Checks the input when a run is triggered, and makes what `run` gets. */
  readonly input: In;
  /** Own events: `ctx.emit` takes these names with data of these types. Default: any name, any data. */
  readonly events?: Events;
  readonly retry?: RetryOptions;
  readonly timeout?: TimeoutOptions;
  readonly concurrency?: ConcurrencyOptions<SchemaOutput<In>>;
  /** Default: `inline`. The others need `module`. */
  readonly isolation?: Isolation;
  /** `import.meta.url` of the module that defines the task: what a thread or process loads. */
  readonly module?: string;
}

type SchemaInput<S> = S extends StandardSchema<infer Input, infer _> ? Input : never;
type SchemaOutput<S> = S extends StandardSchema<infer _, infer Output> ? Output : never;

/** A definition of background work, as `defineTask` makes it. `Input`: what callers give; `Output`: what they get. */
export interface Task<Input = unknown, Output = unknown> {
  readonly id: string;
  readonly input: StandardSchema;
  readonly output: StandardSchema | undefined;
  readonly events: EventSchemas | undefined;
  readonly retry: Required<Omit<RetryOptions, 'when'>> & Pick<RetryOptions, 'when'>;
  readonly timeout: TimeoutOptions & { readonly graceMs: number };
  readonly concurrency: ConcurrencyOptions<never> | undefined;
  readonly isolation: Isolation;
  readonly module: string | undefined;
  readonly run: (input: never, context: never) => unknown;
  /** Never there: carries the types. */
  readonly types?: { readonly input: Input; readonly output: Output };
}

export type TaskInput<T> = T extends Task<infer Input, infer _> ? Input : never;
export type TaskOutput<T> = T extends Task<infer _, infer Output> ? Output : never;

const tasks = Symbol.for('signalbox.tasks');
const brand = Symbol.for('signalbox.task');

/**
 * Defines a task. Types of input, output and events come from their schemas (zod, valibot, arktype: anything that
 * follows Standard Schema); without `output` the result is what `run` returns. All of them have to be JSON.
 *
 * Throws `invalid-argument` naming the option at fault.
 */
export function defineTask<
  In extends StandardSchema,
  Out extends StandardSchema,
  Events extends EventSchemas = EventSchemas,
>(
  options: Shared<In, Events> & {
    /** Checks the result, and makes what callers get. */
    readonly output: Out;
    run(
      input: SchemaOutput<In>,
      context: TaskContext<Events>,
    ): SchemaInput<NoInfer<Out>> | Promise<SchemaInput<NoInfer<Out>>>;
  },
): Task<SchemaInput<In>, SchemaOutput<Out>>;
export function defineTask<In extends StandardSchema, Result, Events extends EventSchemas = EventSchemas>(
  options: Shared<In, Events> & {
    readonly output?: undefined;
    run(input: SchemaOutput<In>, context: TaskContext<Events>): Result | Promise<Result>;
  },
): Task<SchemaInput<In>, Result>;
export function defineTask(
  options: Shared<StandardSchema, EventSchemas> & { output?: StandardSchema | undefined; run: Task['run'] },
): Task {
  const { id, input, output, events, retry = {}, timeout = {}, concurrency, isolation = 'inline', module } = options;
  if (typeof id !== 'string' || !/^[A-Za-z0-9._-]{1,64}$/.test(id))
    throw new HubError('invalid-argument', `task id ${JSON.stringify(id)}: it has to be 1 to 64 of A-Z a-z 0-9 . _ -`);
  const refuse = (what: string): never => {
    throw new HubError('invalid-argument', `task ${id}: ${what}`);
  };
  if (typeof input?.['~standard']?.validate !== 'function') refuse('input is not a schema (Standard Schema v1)');
  if (output !== undefined && typeof output['~standard']?.validate !== 'function') refuse('output is not a schema');
  const { attempts = 1, minMs = 1000, maxMs = 60_000, when } = retry;
  if (!Number.isInteger(attempts) || attempts < 1) refuse(`retry.attempts is ${attempts}, it has to be at least 1`);
  if (!(minMs > 0 && minMs <= maxMs && maxMs < Number.POSITIVE_INFINITY))
    refuse(`retry waits from ${minMs} to ${maxMs} ms: 0 < minMs <= maxMs is asked for`);
  for (const [name, ms] of Object.entries(timeout))
    if (ms !== undefined && !(Number.isFinite(ms) && (ms > 0 || (ms === 0 && name === 'graceMs'))))
      refuse(`timeout.${name} is ${ms}, it has to be more than 0 ms`);
  const limit = concurrency?.limit ?? 1;
  if (!Number.isInteger(limit) || limit < 1) refuse(`concurrency.limit is ${limit}, it has to be at least 1`);
  if (isolation !== 'inline' && module === undefined)
    refuse(`isolation "${isolation}" needs module: import.meta.url, so that it can be loaded there`);
  if (module !== undefined && !module.startsWith('file:')) refuse(`module ${JSON.stringify(module)} is no file: URL`);
  const task: Task = {
    id,
    input,
    output,
    events,
    retry: { attempts, minMs, maxMs, ...(when && { when }) },
    timeout: { ...timeout, graceMs: timeout.graceMs ?? 5000 },
    concurrency: concurrency as ConcurrencyOptions<never> | undefined,
    isolation,
    module,
    run: options.run,
    [brand]: true,
  } as Task;
  definedTasks().set(id, task);
  return task;
}

/** Whether it was made by `defineTask`, also by another copy of this library. */
export function isTask(value: unknown): value is Task {
  return typeof value === 'object' && value !== null && brand in value;
}

/** The newest task of each id that this process has defined. It is how a thread finds the task of its module. */
export function definedTasks(): Map<string, Task> {
  const holder = globalThis as { [tasks]?: Map<string, Task> };
  holder[tasks] ??= new Map();
  return holder[tasks];
}
