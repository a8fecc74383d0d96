import type { EventPage, StepSource } from './event-log.ts';
import { KeptEvent, overheadBytes } from './kept-event.ts';
import { PackedPages } from './packed-pages.ts';

/** A source has this many steps. */
const steps = 8;
/** Added to the number of a step whose source was packed. */
const packed = 8;
/** Added to the number of a step that is still being stored. */
const pending = 16;
/** So many numbers of steps there are, packed or not, stored or not: what is left is their age. */
const kinds = 32;
/** Stands for an event instead of a step. */
const noStep = 2 ** 32 - 1;
/** A step of a packed source weighs less than this; above it stands where in its page the source is, in eights of bytes. */
const maxPackedWeight = 2048;
/** A source stays an object where more entries than this came between its steps. */
const maxBetween = 256;

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
  /** The log has let go of it: it holds nothing, and takes nothing more. */
  isForgotten = false;
  /** A ring: events, and sources of steps that become events when they are read, or the pages into which these were packed. */
  #entries: (KeptEvent | StepSource | Uint8Array | undefined)[] = [];
  /**
   * Pairs, one for each entry, side by side as they are needed together. What is known of a step: its number, and above that
   * its age; `noStep` for events. And what the step weighs: to ask its source again would mean to touch it long after it
   * has left every cache.
   */
  #facts = new Uint32Array();
  /** Where sources are packed that are over. */
  #pages: PackedPages | undefined = undefined;
  #unpack: StepSource['unpack'] | undefined = undefined;
  /** Where the oldest entry is. */
  #head = 0;
  size = 0;
  #read: EventPage | undefined = undefined;
  #readAfter = -1;
  #readLimit = 0;
  #readVisible = -1;

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

  at(seq: number): KeptEvent | undefined {
    return seq < this.first || seq > this.last ? undefined : this.#eventAt(this.#place(seq), seq);
  }

  /** Passes over a number before the first event: readers are told a gap. */
  skip(): void {
    this.last++;
    this.visible = this.last;
  }

  /** Takes the event with the next number. */
  push(event: KeptEvent): void {
    this.#add(event, noStep, event.bytes);
  }

  /** Takes a step with the next number. `age`: seconds since the log began. */
  pushStep(source: StepSource, step: number, age: number, state: 'kept' | 'pending'): void {
    const weight = overheadBytes + source.bytesOf(step);
    this.#add(source, age * kinds + step + (state === 'pending' ? pending : 0), weight);
    if (source.firstSeq === 0) source.firstSeq = this.last;
    if (source.isOver) this.#pack(source);
  }

  /** Whoever still has it does not keep its events with it. */
  forget(): void {
    this.isForgotten = true;
    this.#entries = [];
    this.#pages = undefined;
    this.#read = undefined;
    this.size = 0;
    this.visible = this.last;
    this.countedBytes = 0;
  }

  /** What was pending was stored, or could not be: then its number is a hole. */
  settle(seq: number, state: 'kept' | 'lost'): void {
    if (seq < this.first) return;
    const place = this.#place(seq);
    const step = this.#facts[2 * place]!;
    if (step !== noStep && state === 'kept') this.#facts[2 * place] = step & ~pending;
    else this.#eventAt(place, seq).state = state;
  }

  /** Lets readers see everything up to the first event that is still being stored. True if there was anything new. */
  advance(): boolean {
    const before = this.visible;
    while (this.visible < this.last && this.#stateOf(this.visible + 1) !== 'pending') this.visible++;
    return this.visible !== before;
  }

  /** Drops the oldest visible events until the limits hold. */
  trim(limits: RingLimits, oldestAge = Number.NEGATIVE_INFINITY): void {
    const before = this.size;
    while (this.size > 0 && this.first <= this.visible) {
      const isWithin = this.size <= limits.ringEvents && this.bytes <= limits.ringBytes;
      // Age is looked at only where it could matter: most calls do not ask for it.
      if (isWithin && (oldestAge === Number.NEGATIVE_INFINITY || this.#ageOf(this.#head) >= oldestAge)) break;
      this.#dropOldest();
    }
    if (this.size === 0) this.#pages = undefined;
    else if (this.size < before) this.#pages?.trim(this.first);
  }

  /** Events after `after`, which must not be before the ring: at most `limit`, and none beyond a hole. */
  page(after: number, limit: number): EventPage {
    // Many watchers stand at the same place: they share one page.
    if (this.#read && this.#readAfter === after && this.#readLimit === limit && this.#readVisible === this.visible)
      return this.#read;
    let from = after;
    while (from < this.visible && this.#stateOf(from + 1) === 'lost') from++;
    let to = from;
    const end = Math.min(this.visible, from + limit);
    while (to < end && this.#stateOf(to + 1) === 'kept') to++;
    const events: KeptEvent[] = [];
    for (let seq = from + 1; seq <= to; seq++) events.push(this.#eventAt(this.#place(seq), seq));
    const page: EventPage = {
      events,
      gap: from > after ? { kind: 'gap', epoch: this.epoch, from: after + 1, to: from } : undefined,
      next: { epoch: this.epoch, seq: to },
      atEnd: to === this.visible,
    };
    this.#read = page;
    this.#readAfter = after;
    this.#readLimit = limit;
    this.#readVisible = this.visible;
    return page;
  }

  #place(seq: number): number {
    return (this.#head + seq - this.first) & (this.#entries.length - 1);
  }

  #stateOf(seq: number): KeptEvent['state'] {
    const place = this.#place(seq);
    const step = this.#facts[2 * place]!;
    if (step === noStep) return (this.#entries[place] as KeptEvent).state;
    return (step & pending) === 0 ? 'kept' : 'pending';
  }

  #ageOf(place: number): number {
    const step = this.#facts[2 * place]!;
    return step === noStep ? (this.#entries[place] as KeptEvent).keptAt : Math.floor(step / kinds);
  }

  #eventAt(place: number, seq: number): KeptEvent {
    const known = this.#facts[2 * place]!;
    if (known === noStep) return this.#entries[place] as KeptEvent;
    const entry = this.#entries[place] as StepSource | Uint8Array;
    const source =
      entry instanceof Uint8Array
        ? this.#unpack!(entry, 8 * Math.floor(this.#facts[2 * place + 1]! / maxPackedWeight))
        : entry;
    const state = (known & pending) === 0 ? 'kept' : 'pending';
    const event = new KeptEvent(this, seq, source.eventOf(known % steps), Math.floor(known / kinds), state);
    this.#entries[place] = event;
    this.#facts[2 * place] = noStep;
    return event;
  }

  #add(entry: KeptEvent | StepSource, step: number, weight: number): void {
    if (this.size === this.#entries.length) this.#widen();
    const place = (this.#head + this.size) & (this.#entries.length - 1);
    this.#entries[place] = entry;
    this.#facts[2 * place] = step;
    this.#facts[2 * place + 1] = weight;
    this.bytes += weight;
    this.size++;
    this.last++;
  }

  /** Puts a source that is over into a page, and lets go of it. */
  #pack(source: StepSource): void {
    const first = Math.max(source.firstSeq, this.first);
    if (this.last - first > maxBetween || this.#facts[2 * this.#place(this.last) + 1]! >= maxPackedWeight) return;
    this.#pages ??= new PackedPages();
    const at = this.#pages.write(source, this.first, this.last);
    if (at < 0) return;
    const { page } = this.#pages;
    this.#unpack = source.unpack;
    for (let seq = first; seq <= this.last; seq++) {
      const place = this.#place(seq);
      if (this.#entries[place] !== source) continue;
      this.#entries[place] = page;
      this.#facts[2 * place]! += packed;
      this.#facts[2 * place + 1]! += (at / 8) * maxPackedWeight;
    }
  }

  #widen(): void {
    const { length } = this.#entries;
    const width = Math.max(8, length * 2);
    const empty = new Array<undefined>(width - length).fill(undefined);
    this.#entries = [...this.#entries.slice(this.#head), ...this.#entries.slice(0, this.#head), ...empty];
    const facts = new Uint32Array(2 * width);
    facts.set(this.#facts.subarray(2 * this.#head));
    facts.set(this.#facts.subarray(0, 2 * this.#head), 2 * (length - this.#head));
    this.#facts = facts;
    this.#head = 0;
  }

  #dropOldest(): void {
    const step = this.#facts[2 * this.#head]!;
    const weight = this.#facts[2 * this.#head + 1]!;
    if (step === noStep) this.bytes -= (this.#entries[this.#head] as KeptEvent).bytes;
    else this.bytes -= (step & packed) === 0 ? weight : weight % maxPackedWeight;
    this.#entries[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#entries.length - 1);
    this.size--;
    this.#read = undefined;
  }
}
