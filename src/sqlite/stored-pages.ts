import type { EventGap, EventPage, LogEvent, Position } from '../events/event-log.ts';
import type { EventTail } from '../events/event-tail.ts';
import { storedEvent } from '../events/kept-event.ts';
import type { ReadRow } from './event-table.ts';
import type { StoreThread } from './store-thread.ts';

/** Fewest events read from the disk at once. */
const minRead = 200;
/** Bytes of data read at once, about: who reads large events, and is slow, must not hold many of them. */
const readBytes = 256 * 1024;
/** Pages remembered: after a restart a thousand watchers ask for the same ones. */
const rememberedPages = 256;
/** The same in bytes, about. */
const rememberedBytes = 16 * 1024 * 1024;

const restarted: EventGap = { kind: 'reset', reason: 'restarted' };

/**
 * Pages of events that are not in memory: durable ones of older epochs, and of this one from before the ring. One read
 * of the disk becomes a chain of pages, each ending where something is missing.
 */
export class StoredPages {
  readonly #thread: StoreThread;
  readonly #tail: EventTail;
  readonly #pages = new Map<string, { readonly page: EventPage; readonly bytes: number }>();
  #bytes = 0;
  readonly #reading = new Map<string, Promise<EventPage>>();

  constructor(thread: StoreThread, tail: EventTail) {
    this.#thread = thread;
    this.#tail = tail;
  }

  read(channel: string, after: Position, limit: number): EventPage | Promise<EventPage> {
    const key = pageKey(channel, after);
    const known = this.#pages.get(key);
    if (known) return shortened(known.page, limit);
    const readKey = `${key}/${limit}`;
    let reading = this.#reading.get(readKey);
    if (!reading) {
      reading = this.#load(channel, after, limit).finally(() => this.#reading.delete(readKey));
      this.#reading.set(readKey, reading);
    }
    return reading;
  }

  /** What was read before may have been dropped since. */
  forget(): void {
    this.#pages.clear();
    this.#bytes = 0;
  }

  async #load(channel: string, after: Position, limit: number): Promise<EventPage> {
    const count = Math.max(limit, minRead);
    const before = { epoch: this.#tail.epoch, seq: this.#tail.oldest(channel) };
    const rows = await this.#thread.call('readEvents', [channel, after, before, count, readBytes]);
    const pages = this.#chain(channel, after, rows, limit);
    let place = after;
    for (const page of pages) {
      this.#remember(pageKey(channel, place), page);
      place = page.next;
    }
    if (pages[0]) return pages[0];
    return this.#intoMemory(channel, after, before.seq - 1, limit);
  }

  /** The rows as pages. */
  #chain(channel: string, after: Position, rows: readonly ReadRow[], limit: number): EventPage[] {
    const pages: EventPage[] = [];
    let place = after;
    let events: LogEvent[] = [];
    let gap: EventGap | undefined;
    const endPage = () => {
      if (events.length > 0) pages.push({ events, gap, next: place, atEnd: false });
      events = [];
      gap = undefined;
    };
    for (const [epoch, seq, type, atMs, data] of rows) {
      if (epoch === this.#tail.epoch && place.epoch !== epoch) {
        endPage();
        const next = { epoch, seq: Math.min(seq - 1, this.#tail.base(channel)) };
        if (place.epoch !== 0) pages.push({ events: [], gap: restarted, next, atEnd: false });
        place = next;
      }
      const missing = this.#missing(place, { epoch, seq });
      // Of older epochs nobody can say what is missing between two events: it is told once, before them all.
      if (events.length >= limit || missing?.kind === 'gap') endPage();
      if (events.length === 0) gap = missing;
      events.push(storedEvent(channel, epoch, seq, type, atMs, data));
      place = { epoch, seq };
    }
    endPage();
    return pages;
  }

  /** What a reader at `place` has to be told before the stored event at `found`. */
  #missing(place: Position, found: Position): EventGap | undefined {
    if (found.epoch !== this.#tail.epoch) return restarted;
    const expected = place.seq + 1;
    return found.seq > expected ? { kind: 'gap', epoch: found.epoch, from: expected, to: found.seq - 1 } : undefined;
  }

  /** Nothing more on disk: goes on with what is in memory, which began after `seq` when the disk was read. */
  #intoMemory(channel: string, after: Position, seq: number, limit: number): EventPage {
    const { epoch } = this.#tail;
    const base = Math.min(this.#tail.base(channel), seq);
    let next = { epoch, seq };
    let gap: EventGap | undefined;
    if (after.epoch !== 0 && after.epoch !== epoch) {
      gap = restarted;
      // What is missing of this epoch is told by its numbers, on the next page.
      next = { epoch, seq: base };
    } else {
      const from = after.epoch === 0 ? base + 1 : after.seq + 1;
      if (from <= seq) gap = { kind: 'gap', epoch, from, to: seq };
    }
    // Memory may have moved on meanwhile: what it dropped is on disk now.
    if (next.seq < this.#tail.oldest(channel) - 1) return { events: [], gap, next, atEnd: false };
    const page = this.#tail.read(channel, next, limit);
    if (!gap) return page;
    return page.gap ? { events: [], gap, next, atEnd: false } : { ...page, gap };
  }

  #remember(key: string, page: EventPage): void {
    this.#drop(key);
    const bytes = weightOf(page);
    this.#pages.set(key, { page, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= rememberedPages && this.#bytes <= rememberedBytes) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    this.#bytes -= this.#pages.get(key)?.bytes ?? 0;
    this.#pages.delete(key);
  }
}

/** Bytes that a page may come to hold: its data, and the JSON and the frame that are made of each event when it is first given. */
function weightOf({ events }: EventPage): number {
  return events.reduce((bytes, event) => bytes + 3 * event.dataJson().length + 400, 0);
}

const pageKey = (channel: string, { epoch, seq }: Position): string => `${channel} ${epoch}.${seq}`;

function shortened(page: EventPage, limit: number): EventPage {
  if (page.events.length <= limit) return page;
  const events = page.events.slice(0, limit);
  const { epoch, seq } = events[limit - 1]!;
  return { events, gap: page.gap, next: { epoch, seq }, atEnd: false };
}
