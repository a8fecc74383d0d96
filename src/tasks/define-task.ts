import { checkTask } from './check-task.ts';
import type { StandardSchema } from './standard-schema.ts';
import type { EventSchemas, TaskContext } from './task-context.ts';
import type { ConcurrencyOptions, Isolation, RetryOptions, TimeoutOptions } from './task-options.ts';

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
  checkTask(options);
  const { id, input, output, events, retry = {}, timeout = {}, concurrency, isolation = 'inline', module } = options;
  const { attempts = 1, minMs = 1000, maxMs = 60_000, when } = retry;
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
