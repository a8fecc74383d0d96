import { HubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import { EventReader } from '../events/event-reader.ts';
import { GapNotice } from '../events/gap-notice.ts';
import { type WatchedEvent, watchEvents } from '../events/watch-events.ts';
import { isTerminalRun, type Run, runChannel } from './run.ts';

/** What a handle needs of `Tasks`. */
export interface RunKeeper {
  snapshot(runId: string, tenant: string): Promise<Run>;
  cancel(runId: string, reason: string | undefined, tenant: string): Promise<Run>;
  /** Sees to it that the end of an ended run is in its channel. */
  announce(run: Run): Promise<void>;
}

export interface WatchRunOptions {
  /** A cursor to go on after. Default: from the first event that is kept. */
  readonly from?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A run, seen from outside. Letting go of it, or of its events, cancels nothing. */
export class TaskHandle<Output = unknown> {
  readonly id: string;
  readonly tenant: string;
  readonly task: string;
  readonly #keeper: RunKeeper;
  readonly #log: EventLog;

  /** @internal Made by `Tasks`. */
  constructor({ id, tenant, task }: Run, keeper: RunKeeper, log: EventLog) {
    this.id = id;
    this.tenant = tenant;
    this.task = task;
    this.#keeper = keeper;
    this.#log = log;
  }

  /** What is kept of the run now. */
  snapshot(): Promise<Run> {
    return this.#keeper.snapshot(this.id, this.tenant);
  }

  /**
   * Its events, first what was kept, then live; ends after `done`. Where that is lost, the iteration ends too: whether the
   * run has ended is asked of the store, at the beginning and after each gap. Throws `not-found` for a run that is forgotten.
   */
  async *events({ from = 'start', signal }: WatchRunOptions = {}): AsyncGenerator<WatchedEvent, void, undefined> {
    const run = await this.snapshot();
    const channels = [channelKey(this.tenant, runChannel(this.id))];
    if (isTerminalRun(run.state)) {
      // Its end may not have been told yet; once it is, there is nothing to wait for.
      await this.#keeper.announce(run);
      yield* readAll(this.#log, channels, from);
      return;
    }
    const stop = new AbortController();
    const both = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    try {
      for await (const watched of watchEvents(this.#log, { channels, from, signal: both })) {
        yield watched;
        if (watched.event.type === 'done') return;
        if (!(watched.event instanceof GapNotice)) continue;
        // What was lost may be the end itself: the store knows, and throws where it has lost the run, too.
        const now = await this.snapshot();
        if (!isTerminalRun(now.state)) continue;
        await this.#keeper.announce(now);
        yield* readAll(this.#log, channels, watched.cursor);
        return;
      }
    } finally {
      stop.abort();
    }
  }

  /**
   * What the run returned, once it has. Throws `task-failed` or `task-cancelled` with its reason, `deadline-exceeded`
   * when its time was over, and the signal's reason when that is aborted (which does not touch the run).
   */
  async result({ signal }: { signal?: AbortSignal } = {}): Promise<Output> {
    signal?.throwIfAborted();
    let run = await this.snapshot();
    if (!isTerminalRun(run.state)) {
      for await (const _ of this.events({ signal })) signal?.throwIfAborted();
      signal?.throwIfAborted();
      run = await this.snapshot();
    }
    return resultOf(run) as Output;
  }

  /** Asks it to end. Resolves to the run as it is then; `result` and `done` tell when it has. */
  cancel(reason?: string): Promise<Run> {
    return this.#keeper.cancel(this.id, reason, this.tenant);
  }
}

/** What is kept, without waiting for more. */
async function* readAll(log: EventLog, channels: readonly string[], from: string): AsyncGenerator<WatchedEvent> {
  const reader = new EventReader(log, { channels, from, onWake: () => undefined });
  try {
    do {
      for (const event of await reader.poll(1)) yield { event, cursor: reader.cursor() };
    } while (reader.mayHaveMore);
  } finally {
    reader.close();
  }
}

/** The result of an ended run. Throws what its end means. */
export function resultOf({ id, task, state, result = 'null', error }: Run): unknown {
  const why = `run ${id} of task ${task}`;
  switch (state) {
    case 'succeeded':
      return JSON.parse(result);
    case 'failed':
      throw new HubError(
        error?.code === 'timed-out' ? 'deadline-exceeded' : 'task-failed',
        `${why} failed: ${error?.message} (${error?.code})`,
      );
    case 'cancelled':
      throw new HubError('task-cancelled', `${why} was cancelled: ${error?.message}`);
    case 'queued':
    case 'running':
      throw new HubError('unavailable', `${why} is still ${state}`);
    default:
      return state satisfies never;
  }
}
