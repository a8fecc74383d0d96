import { availableParallelism } from 'node:os';
import { toHubError } from '../../errors.ts';
import type { Task } from '../define-task.ts';
import { type Job, type JobHost, runErrorOf, ThrownElsewhere } from '../perform.ts';
import { streamSink } from '../stream-sink.ts';
import { RoadEnd } from './command-road.ts';
import { type Host, HostPool, startProcess, startThread } from './host-pool.ts';
import type { FromHost } from './messages.ts';

export interface HostPoolsOptions {
  /** Threads at once, for tasks with isolation `thread`. Default: as many as the machine has cores. */
  readonly threads?: number | undefined;
  /** The same for processes. */
  readonly processes?: number | undefined;
}

/** The threads and processes of a worker's tasks. They are started when first needed. */
export class HostPools {
  readonly #threads: HostPool;
  readonly #processes: HostPool;

  constructor({ threads = availableParallelism(), processes = availableParallelism() }: HostPoolsOptions = {}) {
    this.#threads = new HostPool(startThread, threads);
    this.#processes = new HostPool(startProcess, processes);
  }

  /**
   * Does a job there. `host.signal` asks it to stop; when `kill` is aborted before it has, the thread or process is
   * ended.
   */
  async run(task: Task, job: Job, host: JobHost, kill: AbortSignal): Promise<string> {
    const pool = task.isolation === 'process' ? this.#processes : this.#threads;
    const taken = await pool.take(AbortSignal.any([host.signal, kill]));
    try {
      return await doThere(taken, task, job, host, kill);
    } finally {
      pool.give(taken);
    }
  }

  close(): void {
    this.#threads.close();
    this.#processes.close();
  }
}

function doThere(there: Host, task: Task, job: Job, host: JobHost, kill: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const askToStop = (): void => {
      const { code, message } = toHubError(host.signal.reason);
      there.post({ kind: 'stop', code, message });
    };
    const road = host.transport && new RoadEnd(host.transport, (answer) => there.post(answer));
    const end = (finish: () => void): void => {
      host.signal.removeEventListener('abort', askToStop);
      kill.removeEventListener('abort', killNow);
      road?.close();
      finish();
    };
    const killNow = (): void => {
      there.kill();
      end(() => reject(host.signal.reason ?? kill.reason));
    };
    const answer = async (n: number, keep: () => Promise<void> | undefined): Promise<void> => {
      try {
        await keep();
        there.post({ kind: 'kept', n });
      } catch (error) {
        there.post({ kind: 'kept', n, error: runErrorOf(toHubError(error)) });
      }
    };
    there.onMessage = (message: FromHost) => {
      switch (message.kind) {
        case 'event': {
          const { event, n } = message;
          void answer(n, () => (event.fence ? host.sink : streamSink()).append(event));
          return;
        }
        case 'checkpoint':
          void answer(message.n, () => host.checkpoint(message.data));
          return;
        case 'succeeded':
          end(() => resolve(message.result));
          return;
        case 'failed':
          end(() => reject(new ThrownElsewhere(message.error)));
          return;
        case 'send':
        case 'next':
        case 'cancel':
        case 'leave':
          road?.hear(message);
          return;
        default:
          message satisfies never;
      }
    };
    there.onEnd = (why) => end(() => reject(new ThrownElsewhere({ code: 'crashed', message: why })));
    host.signal.addEventListener('abort', askToStop, { once: true });
    kill.addEventListener('abort', killNow, { once: true });
    if (host.signal.aborted) askToStop();
    there.post({ kind: 'job', job, module: task.module!, hasRoad: road !== undefined });
    if (there.hasEnded) there.onEnd('its thread or process has ended');
  });
}
