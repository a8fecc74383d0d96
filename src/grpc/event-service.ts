import { requireChannel, requireScope } from '../auth/index.ts';
import { HubError } from '../errors.ts';
import {
  channelKey,
  channelName,
  checkChannelName,
  checkForeignChannel,
  checkForeignEventType,
} from '../events/channels.ts';
import { decodeCursor } from '../events/cursor.ts';
import type { EventLog, LogEvent } from '../events/event-log.ts';
import { foreignData } from '../events/foreign-data.ts';
import { watchEvents } from '../events/watch-events.ts';
import type { Clock } from '../flow/clock.ts';
import {
  type Event,
  EventServiceDefinition,
  type WatchEventsRequest,
  type WatchEventsResponse,
} from '../protocol/gen/signalbox/v1/event.ts';
import { type GrpcService, grpcService } from './service.ts';

/** Channels that one watcher reads at most: their positions have to fit into one cursor. */
const maxChannels = 16;

/** Lets callers read channels (scope `events:read`, by pattern) and add to those that are not the hub's (`events:publish`). */
export function eventService(log: EventLog, clock: Clock): GrpcService {
  return grpcService(EventServiceDefinition, {
    watchEvents(request, { principal, signal }) {
      requireScope(principal, 'events:read');
      for (const channel of request.channels) {
        checkChannelName(channel);
        requireChannel(principal, channel);
      }
      return watch(log, request, principal.tenant, signal);
    },

    async publishEvent({ channel, type, json, producerId, producerSeq, volatile }, { principal }) {
      requireScope(principal, 'events:publish');
      checkForeignChannel(channel);
      checkForeignEventType(type);
      const data = foreignData(json);
      if (producerId.length > 128 || (producerId !== '' && producerSeq < 1))
        throw new HubError(
          'invalid-argument',
          `producer "${producerId.slice(0, 128)}" has no number, or too long a name`,
        );
      // A producer is known by its own name alone: nobody can swallow what another one sends.
      const producer = producerId === '' ? undefined : { id: `${principal.subject}/${producerId}`, seq: producerSeq };
      const event = { type, atMs: clock.now(), ...data, durable: !volatile, producer };
      await log.append(channelKey(principal.tenant, channel), event);
      return {};
    },
  });
}

async function* watch(
  log: EventLog,
  { channels, cursor, fromStart }: WatchEventsRequest,
  tenant: string,
  signal: AbortSignal,
): AsyncGenerator<WatchEventsResponse> {
  const distinct = [...new Set(channels)];
  if (distinct.length === 0 || distinct.length > maxChannels)
    throw new HubError('invalid-argument', `${distinct.length} channels are named, it has to be 1 to ${maxChannels}`);
  const keys = distinct.map((channel) => channelKey(tenant, channel));
  if (cursor !== '' && decodeCursor(cursor, keys).kind === 'malformed')
    throw new HubError('invalid-argument', `cursor ${JSON.stringify(cursor.slice(0, 64))} is not one of ours`);
  const from = cursor || (fromStart ? 'start' : undefined);
  for await (const watched of watchEvents(log, { channels: keys, from, signal }))
    yield { event: eventToProto(watched.event), cursor: watched.cursor };
}

function eventToProto(event: LogEvent): Event {
  const { epoch, seq, type, atMs } = event;
  return { channel: channelName(event.channel), epoch, seq, type, atMs, json: event.dataJson() };
}
