import type { LogEvent, Position } from '../../events/event-log.ts';
import type { Audience } from './audience.ts';
import type { Batch } from './batch.ts';
import type { Feed, Found } from './feed.ts';
import type { Sink } from './sink.ts';
import { type Stretch, upTo } from './stretch.ts';

/** Why a stream ended. */
export type StreamEnd =
  | 'left'
  | 'finished'
  | 'stalled'
  | 'idle'
  | 'expired'
  | 'lease-lost'
  | 'draining'
  | 'log-failed'
  | 'closed-by-gateway';

/** One open event stream: a browser tab, a script. Holds positions, never a queue of events. */
export class Watcher {
  readonly subject: string;
  readonly audience: Audience;
  readonly expiresAtMs: number;
  /** Monotonic ms without an event after which the stream ends; 0 for never. */
  readonly idleLimitMs: number;
  readonly #isLast: ((event: LogEvent) => boolean) | undefined;
  /** In the order of the audience's channels. */
  places: readonly Place[] = [];
  /** Set by `open`. */
  sink!: Sink;
  /** Set while the wire has more waiting than it should: no place of it is served until all is gone. */
  isParked = false;
  /** Set once the last frame is written; only the closing is waited for. */
  endedBy: StreamEnd | undefined;
  lastWriteMs = 0;
  lastEventMs = 0;
  /** Bytes written so far, to see whether the other end still takes any. */
  #written = 0;
  #flushed = 0;
  #lastProgressMs = 0;

  constructor(options: {
    subject: string;
    expiresAtMs: number | undefined;
    idleLimitMs: number;
    isLast: ((event: LogEvent) => boolean) | undefined;
    audience: Audience;
  }) {
    this.subject = options.subject;
    this.expiresAtMs = options.expiresAtMs ?? Number.POSITIVE_INFINITY;
    this.idleLimitMs = options.idleLimitMs;
    this.#isLast = options.isLast;
    this.audience = options.audience;
  }

  /** Its answer has begun. */
  open(sink: Sink, nowMs: number): void {
    this.sink = sink;
    this.lastWriteMs = nowMs;
    this.lastEventMs = nowMs;
    this.#lastProgressMs = nowMs;
  }

  /** Writes bytes; false when the wire is full. */
  write(batch: Batch, nowMs: number): boolean {
    this.lastWriteMs = nowMs;
    this.#written += batch.bytes.length;
    return this.sink.write(batch);
  }

  /** Writes a stretch for one of its places and moves the place on. `isLast`: the stream's last event was in it. */
  give(place: Place, stretch: Stretch, nowMs: number): { fits: boolean; isLast: boolean } {
    this.lastEventMs = nowMs;
    const isLast = this.#isLast;
    const last =
      isLast === undefined ? -1 : stretch.items.findIndex(({ event }) => event !== undefined && isLast(event));
    const given = last === -1 ? stretch : upTo(stretch, last);
    const batch = this.places.length === 1 ? given.shared : this.audience.framesOf(given, this.places, place);
    place.at = given.next;
    return { fits: this.write(batch, nowMs), isLast: last !== -1 };
  }

  /** Where the stream is now in all its channels. */
  cursor(): string {
    return this.audience.cursorOf(this.places.map(({ at }) => at));
  }

  /** True when bytes are waiting and none has left for `stallMs`. */
  isStalled(nowMs: number, stallMs: number): boolean {
    const waiting = this.sink.waiting;
    const flushed = this.#written - waiting;
    if (waiting === 0 || flushed !== this.#flushed) {
      this.#flushed = flushed;
      this.#lastProgressMs = nowMs;
      return false;
    }
    return nowMs - this.#lastProgressMs >= stallMs;
  }
}

/** A watcher's place in one of its channels: all that a slow one costs. */
export class Place {
  readonly feed: Feed<Place>;
  readonly watcher: Watcher;
  at: Position = { epoch: 0, seq: 0 };
  isResetTold = false;
  isReading = false;
  found: Found | undefined;

  constructor(feed: Feed<Place>, watcher: Watcher) {
    this.feed = feed;
    this.watcher = watcher;
  }
}
