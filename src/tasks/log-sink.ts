import { HubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import type { StreamSink } from './stream-sink.ts';

/** Streams lead into a log of this process. Streams of runs are written by the worker that has the run, and refused here. */
export function logSink(log: EventLog): StreamSink {
  return {
    append({ tenant, channel, type, data, atMs, durable, fence }) {
      if (fence)
        return Promise.reject(
          new HubError('permission-denied', `the stream of run ${fence.runId} is written by its worker alone`),
        );
      return log.append(channelKey(tenant, channel), { type, data, atMs, durable });
    },
  };
}
