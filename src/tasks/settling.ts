import { toHubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import type { ActiveRun } from './active-run.ts';
import { type Announcer, announcementsOf } from './announcer.ts';
import type { TaskFact } from './facts.ts';
import { isTerminalRun, type Run } from './run.ts';
import type { AttemptEnd, FinalEnd, RunStore } from './run-store.ts';

export interface SettlingOptions {
  readonly store: RunStore;
  readonly log: EventLog;
  readonly announcer: Announcer;
  readonly clock: Clock;
  readonly random: () => number;
  readonly observe: (fact: TaskFact) => void;
  /** Whether the worker closes: it does not wait for a store that is gone. */
  readonly isClosing: () => boolean;
  /** The run is due again. */
  readonly onDue: (run: Run) => void;
}

/** Brings the ends of attempts into the store, and tells of those after which no attempt comes. */
export class Settling {
  readonly #options: SettlingOptions;

  constructor(options: SettlingOptions) {
    this.#options = options;
  }

  /** Tried again while the claim stands and the store is away. Never rejects: a run that is not settled is taken up again. */
  async settle(active: ActiveRun, end: AttemptEnd): Promise<void> {
    const { store, log, clock, random, observe, isClosing } = this.#options;
    const backoff = new Backoff({ minMs: 100, maxMs: 2000, random });
    for (;;) {
      try {
        // A store that can tells of the end in the same step; when that has failed, one after the other is more likely to.
        if (store.teller?.log === log && isFinal(end) && backoff.attempts === 0) await this.#settleAndTell(active, end);
        else await this.#settle(active, end);
        return;
      } catch (error) {
        observe({ kind: 'tasks-failed', operation: 'settle a run', error: toHubError(error) });
        if (isClosing() || active.stopped?.kind === 'lost' || backoff.attempts >= 20) return;
        await new Promise<void>((resolve) => clock.after(backoff.next(), resolve));
      }
    }
  }

  /** Tells of a run that has ended. */
  async announce(run: Run): Promise<void> {
    await this.#options.announcer.announce(run);
    this.#observeEnd(run);
  }

  async #settle({ run, claim }: ActiveRun, end: AttemptEnd): Promise<void> {
    const { store, clock, observe, onDue } = this.#options;
    const { tenant, id: runId, task } = run;
    const settled = await store.settle(claim, end, clock.now());
    if (!settled) observe({ kind: 'run-lost', tenant, runId, task });
    else if (isTerminalRun(settled.state)) await this.announce(settled);
    else {
      if (end.kind === 'retry')
        observe({ kind: 'run-retried', tenant, runId, task, attempt: run.epoch, message: end.error.message });
      onDue(settled);
    }
  }

  async #settleAndTell({ run, claim }: ActiveRun, end: FinalEnd): Promise<void> {
    const { store, clock, observe } = this.#options;
    const nowMs = clock.now();
    const ended: Run = {
      ...run,
      state: end.kind,
      endedAtMs: nowMs,
      result: end.kind === 'succeeded' ? end.result : undefined,
      error: end.kind === 'succeeded' ? undefined : end.error,
    };
    if (await store.teller!.settle(claim, end, nowMs, announcementsOf(ended))) this.#observeEnd(ended);
    else observe({ kind: 'run-lost', tenant: run.tenant, runId: run.id, task: run.task });
  }

  #observeEnd(run: Run): void {
    const { observe, clock } = this.#options;
    if (!isTerminalRun(run.state)) return;
    const { tenant, id: runId, task, state } = run;
    const afterMs = Math.max(0, (run.endedAtMs ?? clock.now()) - run.createdAtMs);
    observe({ kind: 'run-ended', tenant, runId, task, state, code: run.error?.code, afterMs });
  }
}

const isFinal = (end: AttemptEnd): end is FinalEnd => end.kind !== 'retry' && end.kind !== 'released';
