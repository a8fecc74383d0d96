import { channelName } from '../../events/channels.ts';
import type { EventGap, LogEvent } from '../../events/event-log.ts';

/** A frame without its id line, from an event's type and its JSON. */
export function encodeFrame(name: string, json: string): Buffer {
  const text = `event: ${oneLine(name)}\ndata: ${oneLine(json)}\n\n`;
  // Of its own: it is kept with its event, and a piece of Node's pool would keep 64 KiB with it.
  const frame = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  frame.write(text);
  return frame;
}

/**
 * The frame of an event, without its id line: made once and kept at the event, so that all watchers share the bytes.
 * `rewrite` may put another JSON in the place of the event's own.
 */
export function frameOf(event: LogEvent, rewrite?: ((event: LogEvent) => string) | undefined): Buffer {
  event.encoded ??= encodeFrame(sseName(event), rewrite === undefined ? event.json() : rewrite(event));
  return event.encoded;
}

/** A frame of the gateway's own; it has no number in a channel. */
export function hubFrame(name: `hub.${string}`, data: Record<string, unknown>, retryMs?: number): Buffer {
  const retry = retryMs === undefined ? '' : `retry: ${Math.round(retryMs)}\n`;
  return Buffer.concat([Buffer.from(retry), encodeFrame(name, JSON.stringify(data))]);
}

/** Says that something is missing in a channel. */
export function gapFrame(key: string, gap: EventGap): Buffer {
  const channel = channelName(key);
  if (gap.kind === 'reset') return hubFrame('hub.reset', { channel, reason: gap.reason });
  return hubFrame('hub.gap', { channel, epoch: gap.epoch, from: gap.from, to: gap.to });
}

export function idLine(cursor: string): string {
  return `id: ${oneLine(cursor)}\n`;
}

export const keepaliveFrame = Buffer.from(':\n\n');

/** What a stream begins with: how soon to come back, something to read at once, and the place to go on from. */
export function openingFrame(retryMs: number, cursor: string): Buffer {
  return Buffer.from(`retry: ${retryMs}\n: signalbox\n${idLine(cursor)}\n`);
}

/**
 * EventSource fires `error`, `open` and `message` itself: an event of such a type goes out under the noun of its
 * channel, `task.error` for an `error` on `task.42`. The JSON keeps the type as it was.
 */
function sseName(event: LogEvent): string {
  if (event.type !== 'error' && event.type !== 'open' && event.type !== 'message') return event.type;
  return `${channelName(event.channel).split('.', 1)[0]}.${event.type}`;
}

// A carriage return alone ends a line too, and so would forge a field; NUL makes browsers ignore an id.
// In JSON these characters can only stand between values (inside strings they are escaped), where a space is as good.
function oneLine(text: string): string {
  return /[\r\n\0]/.test(text) ? text.replace(/[\r\n\0]/g, ' ') : text;
}
