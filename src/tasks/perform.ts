import { commandClient } from '../commands/index.ts';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { Task } from './define-task.ts';
import type { RunError } from './run.ts';
import { parseWith } from './standard-schema.ts';
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
  let unkept: unknown;
  const pending = new Set<Promise<void>>();
  const noted = (kept: Promise<void>): Promise<void> => {
    pending.add(kept);
    kept.then(
      () => pending.delete(kept),
      (error: unknown) => {
        pending.delete(kept);
        unkept ??= error;
      },
    );
    return kept;
  };
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
      if (!schema) return noted(stream.emit(type, data));
      const kept = parseWith(schema, data, type).then((checked) => stream.emit(type, checked));
      kept.catch(() => undefined);
      return noted(kept);
    },
    log: (message, level) => noted(stream.log(message, level)),
    progress: (percent, step, message) => noted(stream.progress(percent, step, message)),
    data: (data) => noted(stream.data(data)),
    error: (message, details) => noted(stream.error(message, details)),
    pipe: (source, options) => stream.pipe(source, options),
    commands: (definition, options) =>
      commandClient(definition, {
        tenant: job.tenant,
        ...(host.transport && { transport: host.transport }),
        ...options,
      }),
    checkpoint: (state) => host.checkpoint(jsonOf(state, `checkpoint of task ${task.id}`, job.maxResultBytes)),
  };
  const returned = await task.run(input as never, context as never);
  // An event that could not be kept is not to be covered up by a good end.
  await Promise.allSettled(pending);
  if (unkept !== undefined) throw unkept;
  const result = task.output ? await parseWith(task.output, returned, 'result') : returned;
  return jsonOf(result, `result of task ${task.id}`, job.maxResultBytes);
}

/** As JSON text; `undefined` becomes `null`. Throws `invalid-argument` naming `what` if it is none, or too long. */
export function jsonOf(value: unknown, what: string, maxBytes: number): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value) ?? 'null';
  } catch (error) {
    throw new HubError('invalid-argument', `${what} is no JSON: ${(error as Error).message}`, { cause: error });
  }
  const bytes = text.length * 3 > maxBytes ? Buffer.byteLength(text) : 0;
  if (bytes > maxBytes) throw new HubError('invalid-argument', `${what} has ${bytes} bytes, the limit is ${maxBytes}`);
  return text;
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

const eventNames = ({ events = {} }: Task): string => Object.keys(events).join(', ') || 'none';
