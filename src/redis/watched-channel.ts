import type { EventPage, LogEvent, Position } from '../events/event-log.ts';

/** The newest events of a watched channel that stay in memory, and their bytes of data. */
const maxEvents = 512;
const maxBytes = 1024 * 1024;

/** A channel that somebody on this node watches: who is to be woken, how far it is, and its newest events. */
export class WatchedChannel {
  readonly key: string;
  readonly #watchers = new Set<() => void>();
  /** The newest position that was heard of; undefined before the first word. */
  end: Position | undefined;
  /** Lets go of the subscription. */
  release: () => void = () => undefined;
  #events: LogEvent[] = [];
  #bytes = 0;
  #isWakeQueued = false;

  constructor(key: string) {
    this.key = key;
  }

  /** The newest event that was read. */
  get newest(): LogEvent | undefined {
    return this.#events.at(-1);
  }

  get isWatched(): boolean {
    return this.#watchers.size > 0;
  }

  add(wake: () => void): () => void {
    // Its own function, so that the same `wake` can be registered twice.
    const call = () => wake();
    this.#watchers.add(call);
    return () => this.#watchers.delete(call);
  }

  /** The channel has come to a position. Wakes once for each turn of the event loop in which that is news. */
  reached(position: Position): void {
    const { end } = this;
    if (end && (position.epoch < end.epoch || (position.epoch === end.epoch && position.seq <= end.seq))) return;
    this.end = position;
    this.wake();
  }

  /** What a reader has found needs no wake-up, as long as nobody had read anything before. */
  found(position: Position): void {
    if (this.end) this.reached(position);
    else this.end = position;
  }

  wake(): void {
    if (this.#isWakeQueued) return;
    this.#isWakeQueued = true;
    setImmediate(() => {
      this.#isWakeQueued = false;
      for (const watcher of this.#watchers) watcher();
    });
  }

  /** What memory has after a position; undefined where Redis has to be asked. */
  page(after: Position, limit: number): EventPage | undefined {
    const { end } = this;
    if (!end || after.epoch !== end.epoch) return undefined;
    if (after.seq === end.seq) return { events: [], next: after, atEnd: true };
    const first = this.#events[0];
    if (!first || first.epoch !== after.epoch || after.seq < first.seq - 1) return undefined;
    const from = after.seq + 1 - first.seq;
    const events = this.#events.slice(from, from + limit);
    const newest = events.at(-1);
    if (!newest) return undefined;
    const next = { epoch: newest.epoch, seq: newest.seq };
    return { events, next, atEnd: next.seq === end.seq };
  }

  /** Keeps what was read, as long as it is one piece with what is there. */
  keep(events: readonly LogEvent[]): void {
    for (const event of events) {
      const newest = this.#events.at(-1);
      if (newest && event.epoch === newest.epoch && event.seq <= newest.seq) continue;
      if (newest && (event.epoch !== newest.epoch || event.seq !== newest.seq + 1)) this.#forget();
      this.#events.push(event);
      this.#bytes += event.dataJson().length;
    }
    let drop = 0;
    while (this.#events.length - drop > maxEvents || (this.#bytes > maxBytes && drop < this.#events.length - 1))
      this.#bytes -= this.#events[drop++]!.dataJson().length;
    if (drop > 0) this.#events.splice(0, drop);
  }

  #forget(): void {
    this.#events = [];
    this.#bytes = 0;
  }
}
