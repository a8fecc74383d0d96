import type { EventLog, LogEvent, Position } from './event-log.ts';

/** Where a channel has the event that `isIt` tells, looked for from its end, then from its beginning. Undefined: nowhere. */
export async function findEvent(
  log: EventLog,
  channel: string,
  isIt: (event: LogEvent) => boolean,
): Promise<Position | undefined> {
  const { epoch, seq } = await log.end(channel);
  if (seq > 0) {
    const last = (await log.read(channel, { epoch, seq: seq - 1 }, 1)).events.find(isIt);
    if (last) return last;
  }
  // After a restart it may be in an older epoch.
  let position: Position = { epoch: 0, seq: 0 };
  for (;;) {
    const page = await log.read(channel, position, 1000);
    const found = page.events.find(isIt);
    if (found) return found;
    if (page.atEnd || (page.events.length === 0 && page.gap === undefined)) return undefined;
    position = page.next;
  }
}

/** Whether what is at `place` comes only after `position`. */
export function isBefore(position: Position, place: Position): boolean {
  return position.epoch < place.epoch || (position.epoch === place.epoch && position.seq < place.seq);
}
