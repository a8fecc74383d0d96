import type { EventGap, EventPage, LogEvent, Position } from '../../events/event-log.ts';
import { Batch } from './batch.ts';
import { frameOf, gapFrame, idLine } from './frame.ts';

/** One frame of a stretch, and the position after it. */
export interface Item {
  readonly body: Buffer;
  readonly after: Position;
  /** Undefined for a frame of our own (`hub.gap`, `hub.reset`). */
  readonly event: LogEvent | undefined;
}

/** Some frames of one channel that follow each other, at most about `maxStretchBytes` of them. */
export interface Stretch {
  readonly items: readonly Item[];
  /** The position after the stretch. */
  readonly next: Position;
  /** True when nothing visible came after it. */
  readonly atEnd: boolean;
  /** The cursor of one who watches this channel alone. */
  readonly cursorAt: (position: Position) => string;
  /** The frames with their ids, for all who watch this channel alone. Made once. */
  readonly shared: Batch;
}

const maxStretchBytes = 64 * 1024;

export interface StretchOptions {
  /** Channel key. */
  readonly channel: string;
  readonly cursorAt: (position: Position) => string;
  readonly rewrite?: ((event: LogEvent) => string) | undefined;
}

/** Turns what was read into frames. `gap`: what of the page's gap is to be told. */
export function stretchOf(page: EventPage, gap: EventGap | undefined, options: StretchOptions): Stretch {
  const items: Item[] = [];
  if (gap !== undefined) items.push(gapItem(page, gap, options.channel));
  let bytes = 0;
  let taken = 0;
  for (const event of page.events) {
    const body = frameOf(event, options.rewrite);
    if (taken > 0 && bytes + body.length > maxStretchBytes) break;
    items.push({ body, after: { epoch: event.epoch, seq: event.seq }, event });
    bytes += body.length;
    taken++;
  }
  const isWhole = taken === page.events.length;
  return new FramedStretch(items, isWhole ? page.next : items.at(-1)!.after, isWhole && page.atEnd, options.cursorAt);
}

/** The stretch up to and with one of its items. */
export function upTo(stretch: Stretch, index: number): Stretch {
  const items = stretch.items.slice(0, index + 1);
  return new FramedStretch(items, items.at(-1)!.after, false, stretch.cursorAt);
}

class FramedStretch implements Stretch {
  readonly items: readonly Item[];
  readonly next: Position;
  readonly atEnd: boolean;
  readonly cursorAt: (position: Position) => string;
  #shared: Batch | undefined;

  constructor(items: readonly Item[], next: Position, atEnd: boolean, cursorAt: (position: Position) => string) {
    this.items = items;
    this.next = next;
    this.atEnd = atEnd;
    this.cursorAt = cursorAt;
  }

  get shared(): Batch {
    this.#shared ??= new Batch(
      this.items.flatMap(({ body, after }) => [Buffer.from(idLine(this.cursorAt(after))), body]),
    );
    return this.#shared;
  }
}

function gapItem(page: EventPage, gap: EventGap, channel: string): Item {
  const first = page.events[0];
  const after = first === undefined ? page.next : { epoch: first.epoch, seq: first.seq - 1 };
  return { body: gapFrame(channel, gap), after, event: undefined };
}
