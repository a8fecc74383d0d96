import { channelsFingerprint, encodeCursor } from '../../events/cursor.ts';
import type { EventPage, Position } from '../../events/event-log.ts';

/** One channel that somebody watches. Those at its head are served together; those behind read for themselves. */
export class Feed<P> {
  readonly key: string;
  /** The cursor of one who watches this channel alone. */
  readonly cursorAt: (position: Position) => string;
  /** Where all of `live` are: each of them holds this very object. */
  head: Position = { epoch: 0, seq: 0 };
  readonly live = new Set<P>();
  readonly lagging = new Set<P>();
  /** Places of all kinds: also those of parked watchers. */
  places = 0;
  /** How often it was woken. */
  wakes = 0;
  /** A reset was told, and events from before the restart are still being read: it is told once. */
  isResetTold = false;
  isReading = false;
  /** The log could not be read when it was last tried. */
  isFailing = false;
  /** It will be tried again. */
  isRetrySet = false;
  found: Found | undefined;
  release: () => void = () => undefined;

  constructor(key: string) {
    this.key = key;
    const fingerprint = channelsFingerprint([key]);
    this.cursorAt = (position) => encodeCursor(fingerprint, [position]);
  }
}

/** What a read from disk brought, and is not given yet: the page after a position, and how often the feed was woken before it. */
export interface Found {
  readonly page: EventPage;
  readonly after: Position;
  readonly wakes: number;
}
