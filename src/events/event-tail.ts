import { type Clock, systemClock } from '../flow/clock.ts';
import { Deque } from '../flow/deque.ts';
import { ChannelTail } from './channel-tail.ts';
import type { CommandHistory, EventGap, EventPage, NewEvent, Position, StepChannel, StepSource } from './event-log.ts';
import { KeptEvent } from './kept-event.ts';

/** How much of the newest events stays in memory. */
export interface EventTailOptions {
  readonly clock?: Clock | undefined;
  /** Events kept per channel. Default: 1,000. */
  readonly ringEvents?: number | undefined;
  /** Bytes kept per channel, about. Default: 1 MiB. */
  readonly ringBytes?: number | undefined;
  /** Events older than this are dropped, in ms. Default: 24 hours. */
  readonly maxAgeMs?: number | undefined;
  /** Channels kept, of commands and of others each; beyond it the oldest quiet one is forgotten. Default: 10,000. */
  readonly maxChannels?: number | undefined;
  /** Bytes kept in all channels together, about. Default: 256 MiB. */
  readonly maxBytes?: number | undefined;
  /** Producers remembered per channel. Default: 64. */
  readonly maxProducers?: number | undefined;
}

/** Channels of one life expectancy. */
interface Shelf {
  readonly channels: Map<string, ChannelTail>;
  /** The same, and some forgotten ones, oldest first. (A Map is slow to ask for its oldest when many were deleted.) */
  readonly byAge: Deque<ChannelTail>;
  /** Highest number in any channel forgotten from here: where a channel that comes (back) starts to count. */
  forgotten: number;
}

/**
 * The newest events of all channels of a process, in memory: numbering, watching, forgetting. The memory log is this
 * alone; a stored log keeps durable events elsewhere as well.
 *
 * A forgotten channel that comes back counts on from above every number it can have had, so that an old position is
 * never taken for a new one.
 */
export class EventTail {
  readonly epoch: number;
  readonly #clock: Clock;
  readonly #ring: { ringEvents: number; ringBytes: number };
  readonly #maxAgeMs: number;
  readonly #maxChannels: number;
  readonly #maxBytes: number;
  readonly #maxProducers: number;
  readonly #commands: Shelf = { channels: new Map(), byAge: new Deque(), forgotten: 0 };
  readonly #others: Shelf = { channels: new Map(), byAge: new Deque(), forgotten: 0 };
  readonly #startedAtMs: number;
  #woken: ChannelTail[] = [];
  #bytes = 0;
  #opened = 0;
  #stopSweeping: () => void = () => undefined;
  #isClosed = false;
  /** Knows the events of commands whose channels nobody has read yet. */
  history: ((key: string) => CommandHistory | undefined) | undefined = undefined;

  constructor(epoch: number, options: EventTailOptions = {}) {
    this.epoch = epoch;
    this.#clock = options.clock ?? systemClock;
    this.#startedAtMs = this.#clock.now();
    this.#ring = { ringEvents: options.ringEvents ?? 1000, ringBytes: options.ringBytes ?? 2 ** 20 };
    this.#maxAgeMs = options.maxAgeMs ?? 24 * 3600_000;
    this.#maxChannels = options.maxChannels ?? 10_000;
    this.#maxBytes = options.maxBytes ?? 256 * 2 ** 20;
    this.#maxProducers = options.maxProducers ?? 64;
    if (Number.isFinite(this.#maxAgeMs)) this.#sweepLater();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Channels in memory now. */
  get channelCount(): number {
    return this.#commands.channels.size + this.#others.channels.size;
  }

  /** Bytes in memory now, about. */
  get bytes(): number {
    return this.#bytes;
  }

  isOpen(key: string): boolean {
    return this.#shelf(key).channels.has(key);
  }

  find(key: string): ChannelTail | undefined {
    return this.#others.channels.get(key) ?? this.#commands.channels.get(key);
  }

  /** Opens the channel of a command, with its history, for its first reader. */
  recall(key: string): void {
    if (!this.history || this.#shelf(key) !== this.#commands || this.#commands.channels.has(key)) return;
    const known = this.history(key);
    if (known) this.begin(key, known);
  }

  /** Opens the channel of a command with this, unless it is open. */
  begin(key: string, { events, isWhole }: CommandHistory): void {
    if (this.#commands.channels.has(key)) return;
    const tail = this.open(key);
    if (!isWhole) tail.skip();
    for (const event of events) this.add(tail, event, 'kept');
  }

  open(key: string): ChannelTail {
    let tail = this.find(key);
    if (!tail) {
      const shelf = this.#shelf(key);
      if (shelf.channels.size >= this.#maxChannels) this.#forgetOldest(shelf);
      tail = new ChannelTail(key, this.epoch, shelf.forgotten);
      shelf.channels.set(key, tail);
      shelf.byAge.push(tail);
      tail.touchedAt = ++this.#opened;
    }
    return tail;
  }

  /** Gives the event its number. A pending one (and what follows it) becomes visible by `settle`. */
  add(tail: ChannelTail, event: NewEvent, state: 'kept' | 'pending'): KeptEvent {
    const kept = new KeptEvent(tail, tail.last + 1, event, this.#age(), state);
    tail.push(kept);
    this.#added(tail, state === 'kept');
    return kept;
  }

  /** Gives a step its number; it becomes an event when it is read. Returns its channel, in which that number is the last. */
  addStep(channel: StepChannel, source: StepSource, step: number, state: 'kept' | 'pending'): ChannelTail {
    let tail = channel.tail as ChannelTail | undefined;
    if (tail === undefined || tail.isForgotten) {
      tail = this.open(channel.key);
      channel.tail = tail;
    }
    tail.pushStep(source, step, this.#age(), state);
    this.#added(tail, state === 'kept');
    return tail;
  }

  #added(tail: ChannelTail, isKept: boolean): void {
    tail.touchedAt = this.#opened;
    if (isKept && tail.visible === tail.last - 1) {
      tail.visible = tail.last;
      if (tail.watchers && !tail.isWakeQueued) this.#wake(tail);
    }
    this.#trim(tail);
    if (this.#bytes > this.#maxBytes) this.#shrink();
  }

  /** A pending event was stored, or could not be. */
  settle(tail: ChannelTail, seq: number, state: 'kept' | 'lost'): void {
    tail.settle(seq, state);
    if (!tail.advance()) return;
    if (tail.watchers && !tail.isWakeQueued) this.#wake(tail);
    this.#trim(tail);
  }

  /** The highest number heard from a producer; undefined for one that is not remembered. */
  heardFrom(tail: ChannelTail, producer: string): number | undefined {
    return tail.producers?.get(producer);
  }

  hear(tail: ChannelTail, producer: string, seq: number): void {
    tail.producers ??= new Map();
    tail.producers.delete(producer);
    tail.producers.set(producer, seq);
    if (tail.producers.size > this.#maxProducers) {
      for (const oldest of tail.producers.keys()) {
        tail.producers.delete(oldest);
        break;
      }
    }
  }

  /** Gives up a channel with the events that it holds; `isWhole`: these are all that there were. */
  take(key: string): { events: KeptEvent[]; isWhole: boolean } | undefined {
    const shelf = this.#shelf(key);
    const tail = shelf.channels.get(key);
    if (!tail) return undefined;
    const events: KeptEvent[] = [];
    for (let seq = tail.first; seq <= tail.last; seq++) events.push(tail.at(seq)!);
    const isWhole = tail.first === tail.base + 1;
    this.#forget(shelf, tail);
    return { events, isWhole };
  }

  /** What memory has after a position. Everything that it has not is told by `gap`. */
  read(key: string, after: Position, limit: number): EventPage {
    const tail = this.find(key);
    const base = this.base(key);
    const visible = tail?.visible ?? base;
    const oldest = this.oldest(key);
    let gap: EventGap | undefined;
    let seq = oldest - 1;
    if (after.epoch === 0) {
      if (seq > base) gap = { kind: 'gap', epoch: this.epoch, from: base + 1, to: seq };
    } else if (after.epoch !== this.epoch) {
      gap = { kind: 'reset', reason: after.epoch < this.epoch ? 'restarted' : 'unknown-position' };
    } else if (after.seq < base || after.seq > visible) {
      gap = { kind: 'reset', reason: 'unknown-position' };
    } else if (after.seq < seq) {
      gap = { kind: 'gap', epoch: this.epoch, from: after.seq + 1, to: seq };
    } else {
      seq = after.seq;
    }
    const page = tail?.page(seq, limit) ?? { events: [], next: { epoch: this.epoch, seq }, atEnd: true };
    if (!gap) return page;
    // A hole right behind the gap is told by the next page.
    return page.gap ? { events: [], gap, next: { epoch: this.epoch, seq }, atEnd: false } : { ...page, gap };
  }

  /** Number of the oldest event of a channel in memory; one above the newest when there is none. */
  oldest(key: string): number {
    const tail = this.find(key);
    return tail ? Math.min(tail.first, tail.visible + 1) : this.#shelf(key).forgotten + 1;
  }

  /** Numbers up to this one belong to earlier lives of the channel. */
  base(key: string): number {
    return this.find(key)?.base ?? this.#shelf(key).forgotten;
  }

  end(key: string): Position {
    return { epoch: this.epoch, seq: this.find(key)?.visible ?? this.#shelf(key).forgotten };
  }

  watch(key: string, wake: () => void): () => void {
    this.recall(key);
    const tail = this.open(key);
    tail.watchers ??= new Set();
    // Its own function, so that the same `wake` can be registered twice.
    const call = () => wake();
    tail.watchers.add(call);
    return () => {
      if (tail.watchers?.delete(call) && tail.watchers.size === 0) tail.watchers = undefined;
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#stopSweeping();
    for (const { channels, byAge } of [this.#commands, this.#others]) {
      channels.clear();
      byAge.clear();
    }
    this.#woken = [];
    this.#bytes = 0;
  }

  #trim(tail: ChannelTail): void {
    if (tail.size > this.#ring.ringEvents || tail.bytes > this.#ring.ringBytes) tail.trim(this.#ring);
    this.#count(tail);
  }

  #count(tail: ChannelTail): void {
    this.#bytes += tail.bytes - tail.countedBytes;
    tail.countedBytes = tail.bytes;
  }

  /** Seconds since the start: a small integer costs no memory of its own in each event. */
  #age(): number {
    return Math.floor((this.#clock.now() - this.#startedAtMs) / 1000);
  }

  #shelf(key: string): Shelf {
    return key.startsWith('command.', key.indexOf('/') + 1) ? this.#commands : this.#others;
  }

  /** Watchers hear of it once per turn of the event loop, however many events came in it. */
  #wake(tail: ChannelTail): void {
    tail.isWakeQueued = true;
    this.#woken.push(tail);
    if (this.#woken.length === 1) setImmediate(() => this.#callWatchers());
  }

  #callWatchers(): void {
    const woken = this.#woken;
    this.#woken = [];
    for (const tail of woken) {
      tail.isWakeQueued = false;
      if (tail.watchers) for (const wake of tail.watchers) wake();
    }
  }

  /** Looks at a few of the oldest channels, and forgets the first one that is unwatched and has been quiet for long. */
  #forgetOldest(shelf: Shelf): void {
    for (let looks = 16; looks > 0; looks--) {
      const tail = shelf.byAge.shift();
      if (!tail) return;
      if (shelf.channels.get(tail.key) !== tail) continue;
      const isBusy = tail.watchers !== undefined || tail.visible < tail.last;
      const isQuiet = this.#opened - tail.touchedAt > this.#maxChannels / 2;
      if (!isBusy && (isQuiet || looks === 1)) {
        this.#forget(shelf, tail);
        return;
      }
      shelf.byAge.push(tail);
    }
  }

  #forget(shelf: Shelf, tail: ChannelTail): void {
    shelf.channels.delete(tail.key);
    shelf.forgotten = Math.max(shelf.forgotten, tail.last);
    this.#bytes -= tail.countedBytes;
    tail.forget();
  }

  /** Too much in memory: forgets old commands, then old channels, then the older half of what the others hold. */
  #shrink(): void {
    for (const shelf of [this.#commands, this.#others]) for (const tail of shelf.channels.values()) this.#count(tail);
    const target = this.#maxBytes * 0.9;
    for (const shelf of [this.#commands, this.#others])
      for (let tries = shelf.channels.size; this.#bytes > target && tries > 0; tries--) this.#forgetOldest(shelf);
    for (const shelf of [this.#commands, this.#others])
      for (const tail of shelf.channels.values())
        if (this.#bytes > target) {
          tail.trim({ ringEvents: tail.size >> 1, ringBytes: Number.POSITIVE_INFINITY });
          this.#count(tail);
        }
  }

  /** Age is looked at in the background, a slice of the channels at a time. */
  #sweepLater(): void {
    const everyMs = Math.min(Math.max(this.#maxAgeMs / 8, 100), 60_000);
    this.#stopSweeping = this.#clock.after(everyMs, () => {
      const tails = [...this.#commands.channels.values(), ...this.#others.channels.values()];
      this.#sweep(tails, 0, this.#age() - this.#maxAgeMs / 1000);
    });
  }

  #sweep(tails: readonly ChannelTail[], from: number, oldest: number): void {
    if (this.#isClosed) return;
    const to = Math.min(from + 2000, tails.length);
    for (let i = from; i < to; i++) {
      const tail = tails[i]!;
      const hadEvents = tail.size > 0;
      tail.trim(this.#ring, oldest);
      this.#count(tail);
      // A command's channel that ran empty has said all it had to say; another one keeps its count.
      const shelf = this.#shelf(tail.key);
      if (hadEvents && tail.size === 0 && !tail.watchers && shelf === this.#commands) this.#forget(shelf, tail);
    }
    if (to < tails.length) {
      setImmediate(() => this.#sweep(tails, to, oldest));
      return;
    }
    for (const { byAge, channels } of [this.#commands, this.#others]) {
      if (byAge.size <= channels.size * 2) continue;
      byAge.clear();
      for (const tail of channels.values()) byAge.push(tail);
    }
    this.#sweepLater();
  }
}
