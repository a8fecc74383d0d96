import { HubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import { EventServiceDefinition } from '../protocol/gen/signalbox/v1/event.ts';
import { type GrpcService, grpcService } from './service.ts';

export function eventService(_log: EventLog, _clock: Clock): GrpcService {
  return grpcService(EventServiceDefinition, {
    watchEvents() {
      throw new HubError('unimplemented', 'not yet');
    },
    async publishEvent() {
      throw new HubError('unimplemented', 'not yet');
    },
  });
}
