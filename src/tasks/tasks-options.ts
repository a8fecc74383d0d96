import { HubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { shown } from './check-keys.ts';
import { isTask, type Task } from './define-task.ts';
import type { TaskFact } from './facts.ts';
import type { HostPoolsOptions } from './isolation/host-pools.ts';
import type { RunStore } from './run-store.ts';
import type { TaskEngine } from './task-engine.ts';

export interface TasksOptions extends HostPoolsOptions {
  /** The tasks that can be triggered and run here. */
  readonly tasks: readonly Task[];
  /** Where events go, and watchers look. */
  readonly log: EventLog;
  /** Where runs are kept. Default: in memory. */
  readonly store?: RunStore | undefined;
  /** What brings runs to workers. Default: the embedded engine, which looks into the store. */
  readonly engine?: TaskEngine | undefined;
  /** The road that `ctx.commands` takes to devices: a hub. Default: the one that the environment names. */
  readonly transport?: CommandTransport | undefined;
  /** Whether runs are done here, or only triggered and watched. Default: true. */
  readonly work?: boolean | undefined;
  /** Runs at once here. Default: 50. */
  readonly concurrency?: number | undefined;
  /** Runs that may wait in the store; more are refused. Default: 100,000. */
  readonly maxQueued?: number | undefined;
  /** How long a run stays with a worker that says nothing, in ms; workers renew it three times as often. Default: 8000. */
  readonly leaseMs?: number | undefined;
  /** A run whose workers were lost more often than this, without a checkpoint in between, fails: it may be what kills them. Default: 10. */
  readonly maxCrashes?: number | undefined;
  /** Largest input in bytes of JSON. Default: 1 MiB. */
  readonly maxInputBytes?: number | undefined;
  /** Largest result or checkpoint in bytes of JSON. Default: 1 MiB. */
  readonly maxResultBytes?: number | undefined;
  /** Ended runs are forgotten after this, in ms. Default: 7 days. */
  readonly keepEndedMs?: number | undefined;
  /** Ended runs that are kept. Default: 100,000. */
  readonly maxEnded?: number | undefined;
  /** Name of this process among several. Default: a random one. */
  readonly node?: string | undefined;
  readonly clock?: Clock | undefined;
  /** Numbers from 0 to 1, to spread retries. Default: `Math.random`. */
  readonly random?: (() => number) | undefined;
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  readonly observe?: ((fact: TaskFact) => void) | undefined;
}

/** The tasks by their ids. Throws `invalid-argument` for two of one id, what is no task, or a limit that is none. */
export function checkTasksOptions(options: TasksOptions): ReadonlyMap<string, Task> {
  const { tasks, log } = options;
  if (typeof log?.append !== 'function')
    throw new HubError('invalid-argument', `tasks: log is ${shown(log)}, it has to be an EventLog`);
  const byId = new Map<string, Task>();
  for (const task of tasks) {
    if (!isTask(task)) throw new HubError('invalid-argument', `tasks: ${shown(task)} is not made by defineTask`);
    if (byId.has(task.id) && byId.get(task.id) !== task)
      throw new HubError('invalid-argument', `two tasks have the id ${task.id}`);
    byId.set(task.id, task);
  }
  for (const name of ['concurrency', 'maxQueued', 'leaseMs', 'maxCrashes', 'threads', 'processes'] as const) {
    const value = options[name];
    const least = name === 'maxCrashes' ? 0 : 1;
    if (value !== undefined && !(Number.isInteger(value) && value >= least))
      throw new HubError('invalid-argument', `tasks: ${name} is ${shown(value)}, it has to be at least ${least}`);
  }
  return byId;
}
