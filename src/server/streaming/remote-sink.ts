import { HubError, toHubError } from '../../errors.ts';
import { Backoff } from '../../flow/backoff.ts';
import { type Clock, systemClock } from '../../flow/clock.ts';
import { uniqueId } from '../../flow/unique-id.ts';
import type { HubClients } from '../../grpc/hub-clients.ts';
import type { StreamEvent, StreamSink } from '../../tasks/index.ts';

export interface RemoteSinkOptions {
  /** Events of all streams that may wait for the hub; more are refused. Default: 10,000. */
  readonly maxWaiting?: number | undefined;
  /** How long a hub that is away is waited for, in ms. Default: 60,000. */
  readonly patienceMs?: number | undefined;
  readonly clock?: Clock | undefined;
}

/**
 * Streams lead to a hub in another process. The events of one stream go one after the other, each again until it is
 * kept; they are numbered, so that one whose answer was lost is kept once.
 */
export function remoteSink(
  events: Pick<HubClients['events'], 'publishEvent'>,
  { maxWaiting = 10_000, patienceMs = 60_000, clock = systemClock }: RemoteSinkOptions = {},
): StreamSink {
  const producerId = uniqueId();
  /** The events of each stream that wait, one after the other. */
  const lines = new Map<string, { last: Promise<void>; waiting: number }>();
  let waiting = 0;
  let lastSeq = 0;

  async function publish(event: StreamEvent, producerSeq: number): Promise<void> {
    const { channel, type, json, durable } = event;
    const request = { channel, type, json, producerId, producerSeq, volatile: !durable };
    const backoff = new Backoff({ minMs: 100, maxMs: 5000 });
    const startMs = clock.monotonic();
    for (;;) {
      try {
        await events.publishEvent(request);
        return;
      } catch (error) {
        const { code } = toHubError(error);
        if (code !== 'unavailable' || clock.monotonic() - startMs >= patienceMs) throw error;
        await new Promise<void>((resolve) => clock.after(backoff.next(), resolve));
      }
    }
  }

  return {
    append(event) {
      if (waiting >= maxWaiting)
        return Promise.reject(
          new HubError('resource-exhausted', `${waiting} events wait for the hub: wait for emit() now and then`),
        );
      let line = lines.get(event.channel);
      if (!line) {
        line = { last: Promise.resolve(), waiting: 0 };
        lines.set(event.channel, line);
      }
      const own = line;
      const seq = ++lastSeq;
      waiting++;
      own.waiting++;
      const kept = own.last
        .catch(() => undefined)
        .then(() => publish(event, seq))
        .finally(() => {
          waiting--;
          own.waiting--;
          if (own.waiting === 0) lines.delete(event.channel);
        });
      own.last = kept;
      return kept;
    },
  };
}
