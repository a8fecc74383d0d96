import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { Run } from './run.ts';
import type { Claim } from './run-store.ts';

/** Why an attempt is told to stop. */
export type StopReason =
  | { readonly kind: 'cancelled'; readonly reason: string }
  | { readonly kind: 'timed-out'; readonly what: string; readonly isFinal: boolean }
  /** Its worker closes. */
  | { readonly kind: 'closing' }
  /** Another worker has the run. */
  | { readonly kind: 'lost' };

/** A run that this process has claimed. */
export class ActiveRun {
  readonly run: Run;
  readonly claim: Claim;
  /** Made when somebody asks for its signal: most runs end before anybody does. */
  #abort: AbortController | undefined;
  readonly #clock: Clock;
  #stop: StopReason | undefined;
  /** Monotonic ms until which nobody else can have claimed it. */
  #safeUntilMs: number;
  #onStop: (() => void) | undefined;
  /** Something that it told or kept was not taken, because log or store are away: what it did counts as not done. */
  isUnkept = false;
  /** Set once its end is decided: nothing that it still tells is taken. */
  isSettling = false;

  constructor(run: Run, clock: Clock, safeUntilMs: number) {
    this.run = run;
    this.claim = { id: run.id, epoch: run.epoch };
    this.#clock = clock;
    this.#safeUntilMs = safeUntilMs;
  }

  get signal(): AbortSignal {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#stop) this.#abort.abort(stopError(this.run, this.#stop));
    }
    return this.#abort.signal;
  }

  /** Why it was told to stop; the first reason stays, but that the run is lost beats all. */
  get stopped(): StopReason | undefined {
    return this.#stop;
  }

  /** Resolves when it is told to stop. */
  readonly whenStopped = new Promise<void>((resolve) => {
    this.#onStop = resolve;
  });

  stop(reason: StopReason): void {
    const isFirst = this.#stop === undefined;
    if (isFirst || reason.kind === 'lost') this.#stop = reason;
    if (!isFirst) return;
    this.#abort?.abort(stopError(this.run, reason));
    this.#onStop?.();
  }

  renewed(safeUntilMs: number): void {
    this.#safeUntilMs = safeUntilMs;
  }

  /** False once so much time has passed that another worker may have it. */
  get isSafe(): boolean {
    return this.#clock.monotonic() < this.#safeUntilMs;
  }
}

function stopError(run: Run, reason: StopReason): HubError {
  switch (reason.kind) {
    case 'cancelled':
      return new HubError('task-cancelled', `run ${run.id} is cancelled: ${reason.reason}`);
    case 'timed-out':
      return new HubError('deadline-exceeded', `run ${run.id}: ${reason.what}`);
    case 'closing':
      return new HubError('unavailable', `run ${run.id}: its worker closes, and it goes on with another one`);
    case 'lost':
      return new HubError('task-cancelled', `run ${run.id}: another worker has it now`);
    default:
      return reason satisfies never;
  }
}
