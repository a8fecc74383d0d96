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
    this.#lazy = new Batch(clock, lazyMs);
    this.#urgent = new Batch(clock, urgentMs);
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
  readonly #sessions = new Set<Session>();
  #letGo: (() => void) | undefined;

  constructor(clock: Clock, afterMs: number) {
    this.#clock = clock;
    this.#afterMs = afterMs;
  }

  add(session: Session): void {
    this.#sessions.add(session);
    this.#letGo ??= this.#clock.after(this.#afterMs, () => {
      this.#letGo = undefined;
      const sessions = [...this.#sessions];
      this.#sessions.clear();
      for (const due of sessions) due.acknowledge();
    });
  }

  close(): void {
    this.#letGo?.();
    this.#sessions.clear();
  }
}
