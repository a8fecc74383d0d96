import type { HubError } from '../../errors.ts';
import { toHubError } from '../../errors.ts';
import type { EventLog, EventPage, LogEvent, Position } from '../../events/event-log.ts';
import type { Clock } from '../../flow/clock.ts';
import type { Batch } from './batch.ts';
import { Feed, type Found } from './feed.ts';
import { type Stretch, stretchOf } from './stretch.ts';
import { Place, type Watcher } from './watcher.ts';

type Channel = Feed<Place>;

export interface FanOutOptions {
  readonly log: EventLog;
  readonly clock: Clock;
  /** Gives the JSON of an event as watchers see it. Called once for each event. */
  readonly rewrite?: ((event: LogEvent) => string) | undefined;
  /** Bytes that may wait for one watcher before it is parked. */
  readonly bufferBytes: number;
  /** A watcher's last event is written. */
  readonly onFinished: (watcher: Watcher) => void;
  /** A channel cannot be read; its watchers cannot be served. None: it cannot be read now, and they wait. */
  readonly onReadFailed: (channel: string, error: HubError, watchers: readonly Watcher[]) => void;
}

/** Events read at once for one place. */
const pageLimit = 256;
/** How long one slice of work may keep the event loop. */
const sliceMs = 4;
/** After a round the fan-out rests this many times as long as it worked: it takes at most 40 % of a core, and what
 *  happens meanwhile is joined into one write for each watcher. */
const restFactor = 1.5;
/** While events wait for those who are up to date, there is enough to join: only others get their turn. */
const behindRestFactor = 0.25;
const maxRestMs = 100;

/**
 * Carries events from the log to all watchers, in rounds: each channel that was woken is read once for all who stand
 * at its head, then for those behind, one by one. A round is cut into slices, so that others get their turn.
 * There is no queue, timer, promise or closure for a watcher: it is a position in a set.
 */
export class FanOut {
  readonly #options: FanOutOptions;
  readonly #feeds = new Map<string, Channel>();
  #woken = new Set<Channel>();
  #round: Iterator<void> | undefined;
  #isScheduled = false;
  #workedMs = 0;
  #isBehind = false;
  #notBeforeMs = 0;
  #nowMs = 0;

  constructor(options: FanOutOptions) {
    this.#options = options;
  }

  /** Gives a watcher a place in a channel, whose wake-ups are heard from now on. Undo with `remove`. */
  add(watcher: Watcher, key: string): Place {
    const feed = this.#feeds.get(key) ?? this.#open(key);
    feed.places++;
    return new Place(feed, watcher);
  }

  /** Begins, or goes on, serving a watcher all that comes after its places. */
  start(watcher: Watcher): void {
    for (const place of watcher.places) {
      place.feed.lagging.add(place);
      this.#wake(place.feed);
    }
  }

  /** Stops serving it; its places are kept, and nothing that was read for them. */
  stop(watcher: Watcher): void {
    for (const place of watcher.places) {
      place.feed.live.delete(place);
      place.feed.lagging.delete(place);
      place.found = undefined;
    }
  }

  remove(places: readonly Place[]): void {
    for (const place of places) {
      const { feed } = place;
      feed.live.delete(place);
      feed.lagging.delete(place);
      feed.places--;
      if (feed.places > 0) continue;
      feed.release();
      this.#feeds.delete(feed.key);
      this.#woken.delete(feed);
    }
  }

  /** Channels that are watched. */
  get size(): number {
    return this.#feeds.size;
  }

  #open(key: string): Channel {
    const feed = new Feed<Place>(key);
    this.#feeds.set(key, feed);
    feed.release = this.#options.log.watch(key, () => {
      feed.wakes++;
      this.#wake(feed);
    });
    return feed;
  }

  #wake(feed: Channel): void {
    this.#woken.add(feed);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const restMs = this.#round === undefined ? this.#notBeforeMs - this.#options.clock.monotonic() : 0;
    // Below a millisecond a timer is slower than the rest is long.
    if (restMs < 1) setImmediate(this.#slice);
    else this.#options.clock.after(restMs, this.#slice);
  }

  readonly #slice = (): void => {
    this.#isScheduled = false;
    const { clock } = this.#options;
    const startMs = clock.monotonic();
    this.#nowMs = startMs;
    this.#round ??= this.#newRound();
    let isDone = false;
    do isDone = this.#round.next().done === true;
    while (!isDone && clock.monotonic() - startMs < sliceMs);
    const endMs = clock.monotonic();
    this.#workedMs += endMs - startMs;
    if (isDone) {
      this.#round = undefined;
      const factor = this.#isBehind ? behindRestFactor : restFactor;
      this.#notBeforeMs = endMs + Math.min(this.#workedMs * factor, maxRestMs);
      this.#workedMs = 0;
      this.#isBehind = false;
    }
    if (!isDone || this.#woken.size > 0) this.#schedule();
  };

  /** One step is one write, or a read that gave nothing. */
  *#newRound(): Generator<void> {
    const feeds = this.#woken;
    this.#woken = new Set();
    for (const feed of feeds) {
      if (feed.live.size > 0) yield* this.#advance(feed);
      for (const place of feed.lagging) {
        this.#catchUp(place);
        yield;
      }
    }
  }

  /** Reads once for all who stand at the head of a channel. */
  *#advance(feed: Channel): Generator<void> {
    const page = this.#pageAfter(feed, feed, feed.head);
    if (page === undefined) return;
    if (page.events.length === 0 && page.gap === undefined) {
      feed.found = undefined;
      return;
    }
    const stretch = this.#stretch(feed, feed, page);
    feed.head = stretch.next;
    if (!stretch.atEnd) {
      this.#woken.add(feed);
      this.#isBehind = true;
    }
    // Nobody joins in the middle of this, though it is cut into slices: that happens only in `#catchUp`.
    for (const place of feed.live) {
      this.#give(place, stretch);
      yield;
    }
  }

  /** Reads for one place that is behind, and lets it join the others when nothing lies between. */
  #catchUp(place: Place): void {
    const { feed } = place;
    const page = this.#pageAfter(feed, place, place.at);
    if (page === undefined) return;
    const stretch = this.#stretch(feed, place, page);
    if (stretch.items.length > 0) this.#give(place, stretch);
    else place.at = stretch.next;
    if (!feed.lagging.has(place)) return;
    if (!stretch.atEnd || !this.#joins(place)) this.#woken.add(feed);
  }

  #joins(place: Place): boolean {
    const { feed } = place;
    const { head } = feed;
    if (feed.live.size === 0) feed.head = place.at;
    else if (place.at.epoch === head.epoch && place.at.seq === head.seq) place.at = head;
    // Two positions can also be one place (the end of an old epoch, the beginning of the next). Both must be seen
    // to be the end at the same instant: an answer from before may have been overtaken.
    else if (this.#isEnd(feed.key, place.at) && this.#isEnd(feed.key, head)) place.at = head;
    else return false;
    feed.lagging.delete(place);
    feed.live.add(place);
    return true;
  }

  #isEnd(key: string, position: Position): boolean {
    const page = this.#options.log.read(key, position, 1);
    if (!isPromise(page)) return page.events.length === 0 && page.gap === undefined;
    // Not known now; the next round reads it in earnest, and meets the same error if there is one.
    page.catch(() => undefined);
    return false;
  }

  #give(place: Place, stretch: Stretch): void {
    const { watcher } = place;
    const { fits, isLast } = watcher.give(place, stretch, this.#nowMs);
    if (isLast) this.#options.onFinished(watcher);
    else if (!fits) this.parkIfFull(watcher);
  }

  /** Writes bytes of the gateway's own (a keepalive, a notice). */
  write(watcher: Watcher, batch: Batch, nowMs: number): void {
    if (!watcher.write(batch, nowMs)) this.parkIfFull(watcher);
  }

  /** A watcher whose wire holds too much gets nothing until that is gone. */
  parkIfFull(watcher: Watcher): void {
    if (watcher.sink.waiting <= this.#options.bufferBytes) return;
    watcher.isParked = true;
    this.stop(watcher);
  }

  /** The wire of a watcher is empty again. */
  unpark(watcher: Watcher): void {
    if (!watcher.isParked) return;
    watcher.isParked = false;
    this.start(watcher);
  }

  #stretch(feed: Channel, reader: Channel | Place, page: EventPage): Stretch {
    const { log, rewrite } = this.#options;
    const gap = page.gap?.kind === 'reset' && reader.isResetTold ? undefined : page.gap;
    // Until the position has reached this epoch, every page from before it begins with the same reset.
    reader.isResetTold = page.next.epoch !== log.epoch && (reader.isResetTold || page.gap?.kind === 'reset');
    const stretch = stretchOf(page, gap, { channel: feed.key, cursorAt: feed.cursorAt, rewrite });
    // What was read from disk and does not fit is given next, not read again.
    if (reader.found !== undefined) reader.found = restOf(reader.found, stretch);
    return stretch;
  }

  /**
   * The page after a position; undefined while it is being read: then the feed is woken when it is there. What came from
   * disk stays with its reader until `#stretch` has taken it all.
   */
  #pageAfter(feed: Channel, reader: Channel | Place, after: Position): EventPage | undefined {
    if (reader.isReading) return undefined;
    const { found } = reader;
    if (found !== undefined && found.after === after) {
      // What became visible while the disk was read may be missing in it.
      if (found.wakes !== feed.wakes) this.#woken.add(feed);
      return found.page;
    }
    reader.found = undefined;
    try {
      const page = this.#options.log.read(feed.key, after, pageLimit);
      if (!isPromise(page)) return page;
      reader.isReading = true;
      const { wakes } = feed;
      page.then(
        (read) => {
          reader.isReading = false;
          feed.isFailing = false;
          // It may be parked by now.
          if (reader === feed || feed.lagging.has(reader as Place)) reader.found = { page: read, after, wakes };
          this.#wake(feed);
        },
        (error: unknown) => {
          reader.isReading = false;
          this.#failed(feed, error);
        },
      );
    } catch (error) {
      this.#failed(feed, error);
    }
    return undefined;
  }

  #failed(feed: Channel, cause: unknown): void {
    const error = toHubError(cause);
    if (error.code === 'unavailable' && error.retryAfterMs !== undefined) {
      // It will be there again, and nothing is lost by then: the streams stay.
      if (!feed.isFailing) this.#options.onReadFailed(feed.key, error, []);
      feed.isFailing = true;
      if (feed.isRetrySet) return;
      feed.isRetrySet = true;
      this.#options.clock.after(error.retryAfterMs, () => {
        feed.isRetrySet = false;
        if (this.#feeds.get(feed.key) === feed) this.#wake(feed);
      });
      return;
    }
    const watchers = new Set([...feed.live, ...feed.lagging].map(({ watcher }) => watcher));
    this.#options.onReadFailed(feed.key, error, [...watchers]);
  }
}

/** What is left of a page behind its first stretch. */
function restOf({ page, wakes }: Found, { items, next }: Stretch): Found | undefined {
  const events = page.events.slice(items.filter(({ event }) => event !== undefined).length);
  return events.length === 0 ? undefined : { page: { events, next: page.next, atEnd: page.atEnd }, after: next, wakes };
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return value instanceof Promise;
}
