// What runs in a thread or process of tasks: it loads the task's module, does one job at a time, and tells.
import { parentPort } from 'node:worker_threads';
import { HubError, type HubErrorCode } from '../../errors.ts';
import { definedTasks } from '../define-task.ts';
import { perform, runErrorOf } from '../perform.ts';
import { setStreamSink } from '../stream-sink.ts';
import { WorkerRoad } from './command-road.ts';
import type { FromHost, ToHost } from './messages.ts';

/** Events and checkpoints that may be unanswered; a task that does not wait is stopped there. */
const maxUnanswered = 10_000;

const tell: (message: FromHost) => void = parentPort
  ? (message) => parentPort?.postMessage(message)
  : (message) => void process.send?.(message);

const waiting = new Map<number, { resolve: () => void; reject: (error: unknown) => void }>();
let next = 1;
const road = new WorkerRoad(tell);
let abort = new AbortController();

function ask(message: (n: number) => FromHost): Promise<void> {
  if (waiting.size >= maxUnanswered)
    return Promise.reject(
      new HubError('resource-exhausted', `${maxUnanswered} events are not kept yet: wait for emit() now and then`),
    );
  return new Promise((resolve, reject) => {
    const n = next++;
    waiting.set(n, { resolve, reject });
    try {
      tell(message(n));
    } catch (error) {
      waiting.delete(n);
      reject(new HubError('invalid-argument', `an event is no JSON: ${(error as Error).message}`, { cause: error }));
    }
  });
}

async function work({ job, module, hasRoad }: Extract<ToHost, { kind: 'job' }>): Promise<void> {
  abort = new AbortController();
  try {
    if (!definedTasks().has(job.task)) await import(module);
    const task = definedTasks().get(job.task);
    if (!task) throw new HubError('not-found', `${module} does not define the task ${job.task}`);
    const sink = { append: (event: Parameters<typeof send>[0]) => send(event) };
    const result = await perform(task, job, {
      sink,
      signal: abort.signal,
      transport: hasRoad ? road : undefined,
      checkpoint: (data) => ask((n) => ({ kind: 'checkpoint', n, data })),
    });
    tell({ kind: 'succeeded', result });
  } catch (error) {
    tell({ kind: 'failed', error: runErrorOf(error) });
  }
}

const send = (event: Extract<FromHost, { kind: 'event' }>['event']): Promise<void> =>
  ask((n) => ({ kind: 'event', n, event }));

function hear(message: ToHost): void {
  switch (message.kind) {
    case 'job':
      void work(message);
      return;
    case 'stop':
      abort.abort(new HubError(message.code, message.message));
      return;
    case 'kept': {
      const asked = waiting.get(message.n);
      waiting.delete(message.n);
      if (message.error) asked?.reject(new HubError(message.error.code as HubErrorCode, message.error.message));
      else asked?.resolve();
      return;
    }
    case 'update':
      road.hear(message);
      return;
    default:
      message satisfies never;
  }
}

// Streams that a task opens itself lead to the worker, too.
setStreamSink({ append: send });
if (parentPort) parentPort.on('message', hear);
else process.on('message', hear);
// A process whose worker is gone has nobody to work for.
if (!parentPort) process.on('disconnect', () => process.exit(0));
