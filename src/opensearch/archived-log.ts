import { channelName } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import { storableJson } from '../events/kept-event.ts';
import type { OpenSearchArchive } from './opensearch-archive.ts';

/** The log itself, whose durable events are also handed to an archive once they are kept. */
export function archivedLog(log: EventLog, archive: Pick<OpenSearchArchive, 'keep'>): EventLog {
  return {
    get epoch() {
      return log.epoch;
    },
    append(channel, event) {
      const kept = log.append(channel, event);
      if (!event.durable || kept === undefined) return kept;
      return kept.then(() => {
        const tenant = channel.slice(0, channel.indexOf('/'));
        archive.keep({
          tenant,
          channel: channelName(channel),
          type: event.type,
          atMs: event.atMs,
          data: storableJson(event),
        });
      });
    },
    read: (channel, after, limit) => log.read(channel, after, limit),
    end: (channel) => log.end(channel),
    watch: (channel, wake) => log.watch(channel, wake),
    recallCommands: (known, stored) => log.recallCommands(known, stored),
    isOpen: (channel) => log.isOpen(channel),
    beginCommand: (channel, history) => log.beginCommand(channel, history),
    lastFrom: (channel, producerId) => log.lastFrom(channel, producerId),
    close: () => log.close(),
  };
}
