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
  /** The frames with their ids, for all who watch this channel alone. Made once. */
  readonly shared: Batch;
}

const maxStretchBytes = 64 * 1024;

export interface StretchOptions {
  /** Channel key. */
  readonly channel: string;
  /** The cursor of one who watches this channel alone. */
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
  const whole = taken === page.events.length;
  let shared: Batch | undefined;
  return {
    items,
    next: whole ? page.next : items.at(-1)!.after,
    atEnd: whole && page.atEnd,
    get shared() {
      shared ??= new Batch(items.flatMap(({ body, after }) => [Buffer.from(idLine(options.cursorAt(after))), body]));
      return shared;
    },
  };
}

function gapItem(page: EventPage, gap: EventGap, channel: string): Item {
  const first = page.events[0];
  const after = first === undefined ? page.next : { epoch: first.epoch, seq: first.seq - 1 };
  return { body: gapFrame(channel, gap), after, event: undefined };
}
