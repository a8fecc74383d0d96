import type { ChannelKey } from '../events/channels.ts';
import { channelsFingerprint, decodeCursor, encodeCursor } from '../events/cursor.ts';
import type { EventLog, LogEvent } from '../events/event-log.ts';
import { FieldError } from './problem.ts';

/** An answer holds at most about this many bytes of events; the rest is in the next page. */
const maxPageBytes = 4 * 1024 * 1024;

export interface HistoryQuery {
  /** A cursor of the same channel; undefined: from the oldest event that is kept. */
  readonly after: string | undefined;
  readonly limit: number;
  readonly jsonOf: (event: LogEvent) => string;
}

/** The fields `events`, `gap`, `next` and `atEnd` of an answer, as the inside of a JSON object. */
export async function historyFields(
  log: EventLog,
  key: ChannelKey,
  { after, limit, jsonOf }: HistoryQuery,
): Promise<string> {
  const known = after === undefined ? undefined : decodeCursor(after, [key]);
  if (known !== undefined && known.kind !== 'positions')
    throw new FieldError('after', `after is ${known.kind === 'foreign' ? 'of another channel' : 'no cursor'}`);
  const page = await log.read(key, known?.positions[0] ?? { epoch: 0, seq: 0 }, limit);
  const events: string[] = [];
  let { next, atEnd } = page;
  let bytes = 0;
  for (const event of page.events) {
    const json = jsonOf(event);
    if (events.length > 0 && bytes + json.length > maxPageBytes) {
      atEnd = false;
      break;
    }
    bytes += json.length;
    events.push(json);
    if (events.length < page.events.length) next = { epoch: event.epoch, seq: event.seq };
    else next = page.next;
  }
  const gap = page.gap === undefined ? '' : `"gap":${JSON.stringify(page.gap)},`;
  const cursor = JSON.stringify(encodeCursor(channelsFingerprint([key]), [next]));
  // The events are JSON texts already.
  return `"events":[${events.join(',')}],${gap}"next":${cursor},"atEnd":${atEnd}`;
}
