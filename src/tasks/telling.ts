import { toHubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import type { ActiveRun } from './active-run.ts';
import { contextOf } from './announcer.ts';
import { type Claims, lostRun } from './claims.ts';
import type { TaskFact } from './facts.ts';
import { newEvent } from './log-sink.ts';
import { type Run, runChannel } from './run.ts';
import type { AttemptEnd, RunStore } from './run-store.ts';
import type { StreamEvent, StreamSink } from './stream-sink.ts';

export interface TellingOptions {
  readonly claims: Claims;
  readonly store: RunStore;
  readonly log: EventLog;
  readonly clock: Clock;
  readonly observe: (fact: TaskFact) => void;
}

/** What runs tell and keep while they last, as long as their claims stand. */
export class Telling {
  readonly #options: TellingOptions;

  constructor(options: TellingOptions) {
    this.#options = options;
  }

  /** Where the streams of runs lead: to the log. */
  readonly sink: StreamSink = {
    append: (event) => {
      const { claims } = this.#options;
      const active = claims.standing(event.fence);
      if (active.isSafe) return this.#noted(active, () => this.#append(event));
      // This process stood still for so long that another one may have the run: ask before anything is told.
      return claims.renew().then(() => {
        claims.standing(event.fence);
        return this.#noted(active, () => this.#append(event));
      });
    },
  };

  async checkpoint(active: ActiveRun, data: string): Promise<void> {
    const { store, clock } = this.#options;
    if (await this.#noted(active, () => store.checkpoint(active.claim, data, clock.now()))) return;
    active.stop({ kind: 'lost' });
    throw lostRun(active.run.id);
  }

  /** Tells that an attempt begins, and from the second on why. */
  start(run: Run): void {
    const { observe } = this.#options;
    const again = run.failures > 0 ? 'failed' : run.crashes > 0 ? 'worker-lost' : 'released';
    const data =
      run.epoch === 1
        ? { context: contextOf(run) }
        : { attempt: run.epoch, reason: again, error: run.error?.message, context: contextOf(run) };
    this.#tell(run, run.epoch === 1 ? 'task.started' : 'hub.attempt', data)?.catch((error: unknown) =>
      observe({ kind: 'tasks-failed', operation: 'tell of an attempt', error: toHubError(error) }),
    );
  }

  /** Tells why an attempt has failed, and when the next one comes. */
  async failure(run: Run, { error, dueAtMs }: Extract<AttemptEnd, { kind: 'retry' }>): Promise<void> {
    const details = { attempt: run.epoch, code: error.code, retryAt: new Date(dueAtMs).toISOString() };
    await this.#tell(run, 'error', { message: error.message, details, context: contextOf(run) });
  }

  /** Notes what could not be kept because log or store are away. */
  #noted<T extends Promise<unknown> | undefined>(active: ActiveRun, keep: () => T): T {
    const note = (error: unknown): void => {
      if (toHubError(error).code === 'unavailable') active.isUnkept = true;
    };
    try {
      const kept = keep();
      kept?.catch(note);
      return kept;
    } catch (error) {
      note(error);
      throw error;
    }
  }

  #append(event: StreamEvent): Promise<void> | undefined {
    return this.#options.log.append(channelKey(event.tenant, event.channel), newEvent(event));
  }

  #tell(run: Run, type: string, data: Record<string, unknown>): Promise<void> | undefined {
    const { log, clock } = this.#options;
    // Of the beginning the store knows; a write to the disk for it would be one in four.
    const event = { type, atMs: clock.now(), data, durable: type !== 'task.started' };
    return log.append(channelKey(run.tenant, runChannel(run.id)), event);
  }
}
