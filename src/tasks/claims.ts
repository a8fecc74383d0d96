import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { ActiveRun } from './active-run.ts';
import type { TaskFact } from './facts.ts';
import type { RunStore } from './run-store.ts';
import type { StreamFence } from './stream-sink.ts';

export interface ClaimsOptions {
  readonly store: RunStore;
  readonly clock: Clock;
  /** How long a claim lasts unless it is renewed, in ms; that is done three times as often. */
  readonly leaseMs: number;
  readonly observe: (fact: TaskFact) => void;
}

/** The runs that a worker has claimed. Keeps the claims while their runs last, and tells a run that has lost its own. */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #active = new Map<string, ActiveRun>();
  #renewing: Promise<void> | undefined;
  #renewedAtMs: number;
  #letGo: (() => void) | undefined;

  constructor(options: ClaimsOptions) {
    this.#options = options;
    this.#renewedAtMs = options.clock.monotonic();
  }

  get size(): number {
    return this.#active.size;
  }

  get(runId: string): ActiveRun | undefined {
    return this.#active.get(runId);
  }

  all(): Iterable<ActiveRun> {
    return this.#active.values();
  }

  add(active: ActiveRun): void {
    this.#active.set(active.run.id, active);
    this.#keepRenewing();
  }

  /** Unless a newer claim has its place. */
  remove(active: ActiveRun): void {
    if (this.#active.get(active.run.id) === active) this.#active.delete(active.run.id);
  }

  /** The run that may still tell something under this claim. Throws `task-cancelled` when there is none. */
  standing(fence: StreamFence | undefined): ActiveRun {
    const active = fence && this.#active.get(fence.runId);
    if (!active || active.claim.epoch !== fence.epoch || active.isSettling || active.stopped?.kind === 'lost')
      throw lostRun(fence?.runId ?? 'unknown');
    return active;
  }

  /** Renews them now if that is due since a while: a process that stood still must not take its own runs for lost ones. */
  async catchUp(): Promise<void> {
    const { clock, leaseMs } = this.#options;
    if (this.#active.size > 0 && clock.monotonic() - this.#renewedAtMs >= leaseMs / 2) await this.renew();
  }

  /** Never rejects: what could not be asked stands as long as it did. */
  renew(): Promise<void> {
    this.#renewing ??= this.#renewAll().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  close(): void {
    this.#letGo?.();
  }

  #keepRenewing(): void {
    const { clock, leaseMs } = this.#options;
    this.#letGo ??= clock.after(leaseMs / 3, () => {
      this.#letGo = undefined;
      if (this.#active.size === 0) return;
      void this.renew().finally(() => {
        if (this.#active.size > 0) this.#keepRenewing();
      });
    });
  }

  async #renewAll(): Promise<void> {
    const { store, clock, leaseMs, observe } = this.#options;
    const all = [...this.#active.values()];
    const askedAtMs = clock.monotonic();
    const nowMs = clock.now();
    try {
      const outcomes = await store.renew(
        all.map(({ claim }) => claim),
        { nowMs, untilMs: nowMs + leaseMs },
      );
      this.#renewedAtMs = askedAtMs;
      for (const [i, active] of all.entries()) {
        const outcome = outcomes[i]!;
        if (outcome === 'lost') {
          // One that has just settled is not lost.
          if (this.#active.get(active.run.id) === active && !active.isSettling) active.stop({ kind: 'lost' });
          continue;
        }
        active.renewed(askedAtMs + leaseMs);
        if (outcome !== 'kept') active.stop({ kind: 'cancelled', reason: outcome.cancelReason });
      }
    } catch (error) {
      observe({ kind: 'tasks-failed', operation: 'renew claims', error: toHubError(error) });
    }
  }
}

export const lostRun = (runId: string): HubError =>
  new HubError('task-cancelled', `run ${runId} is not this worker's any more: nothing more is taken from it`);
