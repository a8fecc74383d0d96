import { HubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog, NewEvent } from '../events/event-log.ts';
import { JsonText } from '../events/json-text.ts';
import type { StreamEvent, StreamSink } from './stream-sink.ts';

/** Streams lead into a log of this process. Streams of runs are written by the worker that has the run, and refused here. */
export function logSink(log: EventLog): StreamSink {
  return {
    append({ tenant, channel, type, json, atMs, durable, fence }) {
      if (fence)
        return Promise.reject(
          new HubError('permission-denied', `the stream of run ${fence.runId} is written by its worker alone`),
        );
      return log.append(channelKey(tenant, channel), newEvent({ type, json, atMs, durable }));
    },
  };
}

/** An event of a stream as logs take it. */
export function newEvent({
  type,
  json,
  atMs,
  durable,
}: Pick<StreamEvent, 'type' | 'json' | 'atMs' | 'durable'>): NewEvent {
  return { type, data: new JsonText(json), atMs, durable, bytes: json.length };
}
