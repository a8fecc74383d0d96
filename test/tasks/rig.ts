import { onTestFinished } from 'vitest';
import { channelKey } from '../../src/events/channels.ts';
import type { EventLog, LogEvent } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import type { TaskFact } from '../../src/tasks/facts.ts';
import {
  memoryRunStore,
  type RunStore,
  runChannel,
  type Task,
  Tasks,
  type TasksOptions,
} from '../../src/tasks/index.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';

export interface TaskRig {
  readonly tasks: Tasks;
  readonly log: EventLog;
  readonly store: RunStore;
  readonly clock: VirtualClock;
  readonly facts: TaskFact[];
  /** Types and data of what is in the channel of a run, without the context. */
  events(runId: string): Promise<[type: string, data: Record<string, unknown>][]>;
}

/** Tasks over memory, by a clock that stands still, that work. */
export async function taskRig(
  tasks: readonly Task[],
  options: Partial<TasksOptions> & { log?: EventLog; store?: RunStore; clock?: VirtualClock } = {},
): Promise<TaskRig> {
  const clock = options.clock ?? virtualClock();
  const log = options.log ?? memoryEventLog({ clock });
  const store = options.store ?? memoryRunStore();
  const facts: TaskFact[] = [];
  const all = new Tasks({
    tasks,
    random: () => 1,
    observe: (fact) => facts.push(fact),
    ...options,
    log,
    store,
    clock,
  });
  await all.start();
  onTestFinished(async () => {
    const closed = all.close();
    // Grace runs by the clock.
    for (let i = 0; i < 20; i++) await clock.advance(1000);
    await closed;
  });
  return { tasks: all, log, store, clock, facts, events: (id) => eventsOf(log, id) };
}

export async function eventsOf(log: EventLog, runId: string): Promise<[string, Record<string, unknown>][]> {
  const page = await log.read(channelKey('default', runChannel(runId)), { epoch: 0, seq: 0 }, 1000);
  return page.events.map((event) => [event.type, dataOf(event)]);
}

export function dataOf(event: LogEvent): Record<string, unknown> {
  const { context: _, ...data } = JSON.parse(event.dataJson());
  return data;
}

/** A promise and what settles it, for tasks that wait for their test. */
export const gate = <T = void>() => Promise.withResolvers<T>();
