import type { Clock } from '../flow/clock.ts';
import type { Session } from './session.ts';

/** A result can wait this long for a command to carry its acknowledgement; the device only keeps it meanwhile. */
const lazyMs = 40;
/** An event's sender waits for it. */
const urgentMs = 1;

/** Sends the acknowledgements that no other frame carried, many at a time. */
export class Acknowledgements {
  readonly #lazy: Batch;
  readonly #urgent: Batch;

  constructor(clock: Clock) {
    this.#lazy = new Batch(clock, lazyMs, 1);
    this.#urgent = new Batch(clock, urgentMs, 2);
  }

  owe(session: Session, isUrgent: boolean): void {
    (isUrgent ? this.#urgent : this.#lazy).add(session);
  }

  close(): void {
    this.#lazy.close();
    this.#urgent.close();
  }
}

class Batch {
  readonly #clock: Clock;
  readonly #afterMs: number;
  #sessions: Session[] = [];
  readonly #mark: number;
  #letGo: (() => void) | undefined;

  /** `mark`: a bit that a session has while it is in here. */
  constructor(clock: Clock, afterMs: number, mark: number) {
    this.#clock = clock;
    this.#afterMs = afterMs;
    this.#mark = mark;
  }

  add(session: Session): void {
    if ((session.owes & this.#mark) !== 0) return;
    session.owes |= this.#mark;
    this.#sessions.push(session);
    this.#letGo ??= this.#clock.after(this.#afterMs, () => {
      this.#letGo = undefined;
      const sessions = this.#sessions;
      this.#sessions = [];
      for (const due of sessions) {
        due.owes &= ~this.#mark;
        due.acknowledge();
      }
    });
  }

  close(): void {
    this.#letGo?.();
    this.#sessions = [];
  }
}
