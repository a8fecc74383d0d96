import type { Clock } from '../flow/clock.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import type { Progress } from '../protocol/command.ts';
import type { PendingCommand } from './pending-command.ts';

/** Two plain progress updates of one command are at least this far apart, in ms. */
const spacingMs = 100;

/** Items are told one by one; plain progress at most ten times a second, the newest of it in any case. */
export class ProgressPace {
  readonly #clock: Clock;
  readonly #wheel: TimingWheel;
  readonly #tell: (pending: PendingCommand, progress: Progress) => void;
  readonly #held = new Set<PendingCommand>();
  readonly #alarm = new Alarm(() => this.#releaseAll());

  constructor(clock: Clock, wheel: TimingWheel, tell: (pending: PendingCommand, progress: Progress) => void) {
    this.#clock = clock;
    this.#wheel = wheel;
    this.#tell = tell;
  }

  /** Tells it, or holds it back for a moment. */
  take(pending: PendingCommand, progress: Progress): void {
    const now = this.#clock.monotonic();
    const { spoken } = pending;
    if (progress.item === undefined && now - spoken.lastAt < spacingMs) {
      spoken.held = progress;
      this.#held.add(pending);
      if (!this.#alarm.isSet) this.#wheel.set(this.#alarm, spacingMs);
      return;
    }
    this.release(pending);
    spoken.lastAt = now;
    this.#tell(pending, progress.item === undefined ? progress : { ...progress, itemNumber: ++spoken.items });
  }

  /** Tells what was held back: something newer follows. */
  release(pending: PendingCommand): void {
    const progress = pending.heldProgress;
    if (!progress) return;
    pending.spoken.held = undefined;
    this.#held.delete(pending);
    this.#tell(pending, progress);
  }

  /** Nothing more is told of it here. */
  forget(pending: PendingCommand): void {
    this.#held.delete(pending);
  }

  #releaseAll(): void {
    const now = this.#clock.monotonic();
    for (const pending of [...this.#held]) {
      pending.spoken.lastAt = now;
      this.release(pending);
    }
  }
}
