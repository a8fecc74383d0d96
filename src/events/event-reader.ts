import type { ChannelKey } from './channels.ts';
import { channelsFingerprint, cursorChannels, decodeCursor, encodeCursor } from './cursor.ts';
import type { EventGap, EventLog, EventPage, LogEvent, Position } from './event-log.ts';
import { GapNotice } from './gap-notice.ts';

export interface EventReaderOptions {
  /** Channel keys (`tenant/name`). Their order does not matter. */
  readonly channels: readonly ChannelKey[];
  /** A cursor to go on after, or `start` for all that is kept. Default: what happens from now on. A cursor that cannot
   *  be understood, or is of other channels, is answered with `hub.reset` and all that is kept. */
  readonly from?: string | undefined;
  /** Called once when there may be something to `poll` again, after a poll that came to the end. */
  readonly onWake?: (() => void) | undefined;
}

interface Place {
  readonly channel: ChannelKey;
  position: Position | Promise<Position>;
  /** False: at the end, nothing new has been heard of. */
  mayHaveMore: boolean;
  /** A reset of an older epoch was told, and its events are still being read: it is told once. */
  isResetTold: boolean;
  /** To be told before anything else. */
  notice: EventGap | undefined;
}

/**
 * Reads some channels from a place on: replay and live are one path. It holds a position for each channel and no events;
 * pages and events are shared by all readers. Where something is missing there is a `hub.gap` or `hub.reset` event.
 */
export class EventReader {
  readonly channels: readonly ChannelKey[];
  readonly #log: EventLog;
  readonly #places: readonly Place[];
  readonly #fingerprint: Buffer;
  readonly #onWake: () => void;
  readonly #releases: (() => void)[];
  #turn = 0;
  #isWaiting = false;
  #isClosed = false;

  constructor(log: EventLog, { channels, from, onWake = () => undefined }: EventReaderOptions) {
    this.channels = cursorChannels(channels);
    this.#log = log;
    this.#onWake = onWake;
    this.#fingerprint = channelsFingerprint(this.channels);
    const decoded = from === undefined || from === 'start' ? undefined : decodeCursor(from, channels);
    // Registered before anything is read, so that nothing falls in between.
    this.#releases = this.channels.map((channel, i) => log.watch(channel, () => this.#wake(this.#places[i]!)));
    this.#places = this.channels.map((channel, i) => ({
      channel,
      position: from === undefined ? endOf(log, channel) : startOf(decoded, i),
      mayHaveMore: true,
      isResetTold: false,
      notice: decoded && decoded.kind !== 'positions' ? { kind: 'reset', reason: 'unknown-position' } : undefined,
    }));
  }

  /** False after a poll came to the end and nothing was heard since. */
  get mayHaveMore(): boolean {
    return this.#places.some((place) => place.mayHaveMore);
  }

  /**
   * The next events, at most `maxEvents` (and a notice where something is missing); none: the end was reached, `onWake`
   * will tell. A promise only where the log has to read from a disk; wait for it before the next call.
   */
  poll(maxEvents: number): readonly LogEvent[] | Promise<readonly LogEvent[]> {
    return this.#collect(none, maxEvents);
  }

  /** The place after everything that `poll` has given. */
  cursor(): string {
    return this.encode(this.positions());
  }

  /** As `cursor`, for the positions that `encode` takes: one for each of `channels`. */
  positions(): Position[] {
    // Before the first poll of a log that has to look up its end, nothing was given: to start over misses nothing.
    return this.#places.map(({ position }) => (position instanceof Promise ? { epoch: 0, seq: 0 } : position));
  }

  encode(positions: readonly Position[]): string {
    return encodeCursor(this.#fingerprint, positions);
  }

  /** Lets go of the log. */
  close(): void {
    this.#isClosed = true;
    for (const release of this.#releases.splice(0)) release();
  }

  #collect(events: readonly LogEvent[], room: number): readonly LogEvent[] | Promise<readonly LogEvent[]> {
    let found = events;
    while (found.length < room && !this.#isClosed) {
      const place = this.#nextPlace();
      if (!place) break;
      const read = this.#read(place, room - found.length);
      if (read instanceof Promise) {
        const soFar = found;
        return read.then((more) => {
          const all = joined(soFar, more);
          return all.length === 0 ? this.#collect(none, room) : this.#finish(all);
        });
      }
      found = joined(found, read);
    }
    return this.#finish(found);
  }

  #finish(found: readonly LogEvent[]): readonly LogEvent[] {
    this.#isWaiting = !this.mayHaveMore;
    return found;
  }

  /** Every channel gets its turn, so that a busy one does not hide the others. */
  #nextPlace(): Place | undefined {
    for (let i = 0; i < this.#places.length; i++) {
      const place = this.#places[this.#turn]!;
      this.#turn = (this.#turn + 1) % this.#places.length;
      if (place.mayHaveMore) return place;
    }
    return undefined;
  }

  #read(place: Place, limit: number): readonly LogEvent[] | Promise<readonly LogEvent[]> {
    const { position, notice } = place;
    if (position instanceof Promise) {
      return position.then(
        (end) => {
          place.position = end;
          return none;
        },
        (error) => {
          place.position = endOf(this.#log, place.channel);
          throw error;
        },
      );
    }
    if (notice) {
      place.notice = undefined;
      place.isResetTold = true;
      return [new GapNotice(place.channel, this.#log.epoch, notice)];
    }
    // Before the read: what wakes us in the middle of it must not be lost.
    place.mayHaveMore = false;
    const page = this.#log.read(place.channel, position, limit);
    if (!(page instanceof Promise)) return this.#take(place, page);
    return page.then(
      (read) => this.#take(place, read),
      (error) => {
        place.mayHaveMore = true;
        throw error;
      },
    );
  }

  #take(place: Place, { events, gap, next, atEnd }: EventPage): readonly LogEvent[] {
    place.position = next;
    if (!atEnd) place.mayHaveMore = true;
    const isTold = gap?.kind === 'reset' && place.isResetTold;
    if (gap?.kind === 'reset') place.isResetTold = true;
    // From here on every hole is told by its numbers.
    if (next.epoch === this.#log.epoch) place.isResetTold = false;
    return gap && !isTold ? [new GapNotice(place.channel, this.#log.epoch, gap), ...events] : events;
  }

  #wake(place: Place): void {
    place.mayHaveMore = true;
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#onWake();
  }
}

const none: readonly LogEvent[] = [];

function joined(a: readonly LogEvent[], b: readonly LogEvent[]): readonly LogEvent[] {
  if (a.length === 0) return b;
  return b.length === 0 ? a : [...a, ...b];
}

function endOf(log: EventLog, channel: ChannelKey): Position | Promise<Position> {
  const end = log.end(channel);
  // Should it fail, the poll that needs it says so.
  if (end instanceof Promise) end.catch(() => undefined);
  return end;
}

function startOf(decoded: ReturnType<typeof decodeCursor> | undefined, index: number): Position {
  return decoded?.kind === 'positions' ? decoded.positions[index]! : { epoch: 0, seq: 0 };
}
