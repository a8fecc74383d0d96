import type { EventPage } from './event-log.ts';
import type { KeptEvent } from './kept-event.ts';

/** Limits of one channel's ring. */
export interface RingLimits {
  readonly ringEvents: number;
  readonly ringBytes: number;
}

/**
 * The newest events of one channel: a ring of consecutive numbers. Thousands of these come and go with the commands,
 * so it is a plain object: no timers, no closures, maps only once they are needed.
 */
export class ChannelTail {
  readonly key: string;
  readonly epoch: number;
  /** Numbers up to this one belong to earlier, forgotten lives of the channel in this epoch. */
  readonly base: number;
  /** The newest number given. */
  last: number;
  /** Readers see events up to this number: none before it is still being stored. */
  visible: number;
  bytes = 0;
  /** What of `bytes` is in the sum of all channels: encoding makes events grow behind its back. */
  countedBytes = 0;
  /** How many channels had been opened in this log when the newest event came: how long it has been quiet. */
  touchedAt = 0;
  watchers: Set<() => void> | undefined = undefined;
  /** Highest number kept from each producer, least recently heard first. */
  producers: Map<string, number> | undefined = undefined;
  isWakeQueued = false;
  #events: KeptEvent[] = [];
  #head = 0;
  #page: EventPage | undefined = undefined;
  #pageAfter = -1;
  #pageLimit = 0;
  #pageVisible = -1;

  constructor(key: string, epoch: number, base: number) {
    this.key = key;
    this.epoch = epoch;
    this.base = base;
    this.last = base;
    this.visible = base;
  }

  /** Number of the oldest event in the ring; one above the newest when it is empty. */
  get first(): number {
    return this.last - this.size + 1;
  }

  get size(): number {
    return this.#events.length - this.#head;
  }

  at(seq: number): KeptEvent | undefined {
    return seq < this.first ? undefined : this.#events[this.#head + seq - this.first];
  }

  /** Takes the event with the next number. */
  push(event: KeptEvent): void {
    this.last = event.seq;
    this.bytes += event.bytes;
    this.#events.push(event);
  }

  /** Lets readers see everything up to the first event that is still being stored. True if there was anything new. */
  advance(): boolean {
    const before = this.visible;
    while (this.visible < this.last && this.at(this.visible + 1)?.state !== 'pending') this.visible++;
    return this.visible !== before;
  }

  /** Drops the oldest visible events until the limits hold. */
  trim(limits: RingLimits, oldestAge = Number.NEGATIVE_INFINITY): void {
    for (;;) {
      const oldest = this.#events[this.#head];
      if (!oldest || oldest.seq > this.visible) break;
      if (this.size <= limits.ringEvents && this.bytes <= limits.ringBytes && oldest.keptAt >= oldestAge) break;
      this.#dropOldest(oldest);
    }
  }

  /** Events after `after`, which must not be before the ring: at most `limit`, and none beyond a hole. */
  page(after: number, limit: number): EventPage {
    // Many watchers stand at the same place: they share one page.
    if (this.#page && this.#pageAfter === after && this.#pageLimit === limit && this.#pageVisible === this.visible)
      return this.#page;
    let from = after;
    while (from < this.visible && this.at(from + 1)?.state === 'lost') from++;
    let to = from;
    const end = Math.min(this.visible, from + limit);
    while (to < end && this.at(to + 1)?.state === 'kept') to++;
    const start = this.#head + from + 1 - this.first;
    const page: EventPage = {
      events: this.#events.slice(start, start + to - from),
      gap: from > after ? { kind: 'gap', epoch: this.epoch, from: after + 1, to: from } : undefined,
      next: { epoch: this.epoch, seq: to },
      atEnd: to === this.visible,
    };
    this.#page = page;
    this.#pageAfter = after;
    this.#pageLimit = limit;
    this.#pageVisible = this.visible;
    return page;
  }

  #dropOldest(oldest: KeptEvent): void {
    this.bytes -= oldest.bytes;
    this.#events[this.#head++] = undefined as unknown as KeptEvent;
    this.#page = undefined;
    if (this.#head > 32 && this.#head * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#head);
      this.#head = 0;
    }
  }
}
