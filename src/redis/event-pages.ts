import type { EventGap, EventPage, LogEvent, Position } from '../events/event-log.ts';
import { storedEvent } from '../events/kept-event.ts';

/** What Redis tells of a channel. */
export interface Look {
  readonly epoch: number;
  /** Numbers up to this one belong to earlier lives of the channel. */
  readonly base: number;
  /** The newest number given. */
  readonly last: number;
  /** Entries after the position that was asked for, oldest first. */
  readonly events: readonly LogEvent[];
}

const restarted: EventGap = { kind: 'reset', reason: 'restarted' };
const unknownPosition: EventGap = { kind: 'reset', reason: 'unknown-position' };

/** Reads entries as the script gives them: id (EPOCH-SEQ), type, at, data. */
export function eventsOf(channel: string, entries: readonly Buffer[]): LogEvent[] {
  const events: LogEvent[] = [];
  for (let i = 0; i < entries.length; i += 4) {
    const [epoch, seq] = String(entries[i]).split('-').map(Number) as [number, number];
    const [type, at, data] = [String(entries[i + 1]), Number(entries[i + 2]), String(entries[i + 3])];
    events.push(storedEvent(channel, epoch, seq, type, at, data));
  }
  return events;
}

/** True when nobody can have been given this position: it is of another channel, or of one that was forgotten. */
export function isUnknown(after: Position, { epoch, base, last }: Omit<Look, 'events'>): boolean {
  return after.epoch > epoch || (after.epoch === epoch && (after.seq < base || after.seq > last));
}

/**
 * The page after a position, of what was found there. It ends where something is missing, so that each gap stands
 * between the pages.
 */
export function pageOf(after: Position, look: Look, limit: number): EventPage {
  const { epoch, base, last } = look;
  if (isUnknown(after, look)) return { events: [], gap: unknownPosition, next: { epoch: 0, seq: 0 }, atEnd: false };
  const first = look.events[0];
  // Into this epoch: what is missing of it is told by its numbers, from its beginning on.
  if (after.epoch < epoch && (!first || first.epoch === epoch)) {
    if (after.epoch !== 0) return { events: [], gap: restarted, next: { epoch, seq: base }, atEnd: base === last };
    return pageOf({ epoch, seq: base }, look, limit);
  }
  // Of older epochs nobody can say what is missing between two events: it is told before them all.
  const gap = !first || first.epoch !== epoch ? first && restarted : holeBetween(after, first.seq, epoch);
  const events: LogEvent[] = [];
  let next = after;
  for (const event of look.events) {
    const isNext = events.length === 0 || (event.epoch === next.epoch && event.seq === next.seq + 1);
    if (!isNext || events.length === limit) break;
    events.push(event);
    next = { epoch: event.epoch, seq: event.seq };
  }
  if (events.length > 0) return { events, gap, next, atEnd: next.epoch === epoch && next.seq === last };
  // Nothing but holes up to the end.
  return { events, gap: holeBetween(after, last + 1, epoch), next: { epoch, seq: last }, atEnd: true };
}

function holeBetween({ seq }: Position, next: number, epoch: number): EventGap | undefined {
  return next > seq + 1 ? { kind: 'gap', epoch, from: seq + 1, to: next - 1 } : undefined;
}
