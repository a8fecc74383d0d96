import { type Clock, systemClock } from './clock.ts';

/** Something that wants to be woken. Extend it where the hot path must not allocate, or give `run`. */
export class Alarm {
  /** @internal The wheel's own links. */
  next: Alarm | undefined;
  /** @internal */
  previous: Alarm | undefined;
  /** @internal Tick at which it rings; -1 while it is not set. */
  dueTick = -1;
  readonly #run: (() => void) | undefined;

  constructor(run?: () => void) {
    this.#run = run;
  }

  /** Called once when the time has come. */
  onAlarm(): void {
    this.#run?.();
  }

  get isSet(): boolean {
    return this.dueTick >= 0;
  }
}

/**
 * Very many coarse timers for the price of one: setting, moving and clearing an alarm is a few pointer writes.
 * Alarms ring at or up to one tick after their time. Nothing runs while no alarm is set.
 */
export class TimingWheel {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots: (Alarm | undefined)[];
  readonly #startMs: number;
  #doneTick = 0;
  #count = 0;
  #letGo: (() => void) | undefined;
  #closed = false;

  /** `tickMs`: resolution. Default: 50. `slots`: alarms further away than `slots` ticks cost one look per turn. */
  constructor({
    clock = systemClock,
    tickMs = 50,
    slots = 512,
  }: { clock?: Clock; tickMs?: number; slots?: number } = {}) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#slots = new Array<Alarm | undefined>(slots).fill(undefined);
    this.#startMs = clock.monotonic();
  }

  /** Alarms that are set. */
  get size(): number {
    return this.#count;
  }

  /** Sets or moves an alarm to ring after `delayMs`. */
  set(alarm: Alarm, delayMs: number): void {
    if (this.#closed) return;
    if (alarm.dueTick >= 0) this.#unlink(alarm);
    const elapsed = this.#clock.monotonic() - this.#startMs;
    if (this.#count === 0) this.#doneTick = Math.max(this.#doneTick, Math.floor(elapsed / this.#tickMs));
    // Never into a slot that this turn has passed already.
    alarm.dueTick = Math.max(Math.ceil((elapsed + Math.max(0, delayMs)) / this.#tickMs), this.#doneTick + 1);
    const slot = alarm.dueTick % this.#slots.length;
    const head = this.#slots[slot];
    alarm.next = head;
    if (head) head.previous = alarm;
    this.#slots[slot] = alarm;
    this.#count++;
    this.#letGo ??= this.#clock.after(this.#tickMs, this.#tick);
  }

  clear(alarm: Alarm): void {
    if (alarm.dueTick >= 0) this.#unlink(alarm);
  }

  /** Forgets all alarms and rings no more. */
  close(): void {
    this.#closed = true;
    this.#letGo?.();
    this.#letGo = undefined;
    this.#slots.fill(undefined);
    this.#count = 0;
  }

  readonly #tick = (): void => {
    this.#letGo = undefined;
    const nowTick = Math.floor((this.#clock.monotonic() - this.#startMs) / this.#tickMs);
    const firstTick = Math.max(this.#doneTick + 1, nowTick - this.#slots.length + 1);
    for (let tick = firstTick; tick <= nowTick; tick++) {
      this.#doneTick = tick;
      this.#ring(tick % this.#slots.length, nowTick);
    }
    if (this.#count > 0 && !this.#closed) this.#letGo ??= this.#clock.after(this.#tickMs, this.#tick);
  };

  #ring(slot: number, nowTick: number): void {
    let due: Alarm[] | undefined;
    for (let alarm = this.#slots[slot]; alarm; alarm = alarm.next)
      if (alarm.dueTick <= nowTick) {
        due ??= [];
        due.push(alarm);
      }
    if (!due) return;
    // The list is in reverse order of setting. An alarm may clear or set others, so each is looked at again.
    for (let i = due.length - 1; i >= 0; i--) {
      const alarm = due[i]!;
      if (alarm.dueTick < 0 || alarm.dueTick > nowTick) continue;
      this.#unlink(alarm);
      alarm.onAlarm();
    }
  }

  #unlink(alarm: Alarm): void {
    const slot = alarm.dueTick % this.#slots.length;
    if (alarm.previous) alarm.previous.next = alarm.next;
    else this.#slots[slot] = alarm.next;
    if (alarm.next) alarm.next.previous = alarm.previous;
    alarm.next = undefined;
    alarm.previous = undefined;
    alarm.dueTick = -1;
    this.#count--;
  }
}
