export { channelKey, clientChannel, commandChannel, defaultTenant, fleetChannel } from './channels.ts';
export type { EventGap, EventLog, EventPage, LogEvent, NewEvent, Position } from './event-log.ts';
export { memoryEventLog } from './memory-event-log.ts';
export { watchEvents } from './watch-events.ts';
