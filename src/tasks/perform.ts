import { commandClient } from '../commands/index.ts';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { Task } from './define-task.ts';
import { jsonOf } from './json-of.ts';
import { LooseEnds } from './loose-ends.ts';
import type { RunError } from './run.ts';
import { checkWith, parseWith, type StandardSchema } from './standard-schema.ts';
import { StreamContext, type StreamContextJson } from './stream-context.ts';
import type { StreamSink } from './stream-sink.ts';
import type { TaskContext } from './task-context.ts';

/** One attempt of a run, as plain JSON: what a thread or process is given. */
export interface Job {
  readonly runId: string;
  readonly task: string;
  readonly tenant: string;
  readonly owner: string | undefined;
  readonly attempt: number;
  readonly input: string;
  readonly checkpoint: string | undefined;
  readonly stream: StreamContextJson;
  readonly maxResultBytes: number;
}

/** Where a job is done, seen from the job. */
export interface JobHost {
  readonly sink: StreamSink;
  readonly signal: AbortSignal;
  checkpoint(data: string): Promise<void>;
  /** The road to devices. Default: the one that the environment names. */
  readonly transport?: CommandTransport | undefined;
}

/** Does a job. Resolves to its result as JSON text; rejects with what the task threw. */
export async function perform(task: Task, job: Job, host: JobHost, clock: Clock = systemClock): Promise<string> {
  const input = await parseWith(task.input, JSON.parse(job.input), 'input');
  const stream = StreamContext.fromJSON(job.stream, { sink: host.sink, clock });
  const ends = new LooseEnds();
  const context: TaskContext = {
    runId: job.runId,
    task: job.task,
    tenant: job.tenant,
    owner: job.owner,
    attempt: job.attempt,
    get signal() {
      return host.signal;
    },
    lastCheckpoint: job.checkpoint === undefined ? undefined : JSON.parse(job.checkpoint),
    stream,
    emit(type, data) {
      const schema = task.events?.[type];
      if (task.events && !schema)
        throw new HubError('invalid-argument', `task ${task.id} has no event "${type}", only ${eventNames(task)}`);
      return ends.required(schema ? checkedEvent(stream, type, schema, data) : stream.emit(type, data));
    },
    log: (message, level) => ends.required(stream.log(message, level)),
    progress: (percent, step, message) => ends.required(stream.progress(percent, step, message)),
    data: (data) => ends.required(stream.data(data)),
    error: (message, details) => ends.required(stream.error(message, details)),
    pipe: (source, options) => ends.optional(stream.pipe(source, options)),
    commands: (definition, options) =>
      commandClient(definition, {
        tenant: job.tenant,
        ...(host.transport && { transport: host.transport }),
        ...options,
      }),
    checkpoint: (state) =>
      ends.optional(host.checkpoint(jsonOf(state, `checkpoint of task ${task.id}`, job.maxResultBytes))),
  };
  const returned = await task.run(input as never, context as never);
  await ends.tied();
  const result = task.output ? await parseWith(task.output, returned, 'result') : returned;
  return jsonOf(result, `result of task ${task.id}`, job.maxResultBytes);
}

/** What a task threw in another thread or process. */
export class ThrownElsewhere extends Error {
  readonly error: RunError;

  constructor(error: RunError) {
    super(error.message);
    this.error = error;
  }
}

/** What is kept of something that was thrown. */
export function runErrorOf(thrown: unknown): RunError {
  if (thrown instanceof ThrownElsewhere) return thrown.error;
  if (thrown instanceof HubError) return { code: thrown.code, message: thrown.message.slice(0, 4096) };
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { code: 'error', message: message.slice(0, 4096) };
}

/** Checked at once, so that an event stays before what is told after it. */
function checkedEvent(stream: StreamContext, type: string, schema: StandardSchema, data: unknown): Promise<void> {
  try {
    const checked = checkWith(schema, data, type);
    if (!(checked instanceof Promise)) return stream.emit(type, checked);
    checked.catch(() => undefined);
    const why = `the schema of event "${type}" is asynchronous, and events do not wait for one another`;
    return Promise.reject(new HubError('invalid-argument', why));
  } catch (error) {
    return Promise.reject(error);
  }
}

const eventNames = ({ events = {} }: Task): string => Object.keys(events).join(', ') || 'none';
