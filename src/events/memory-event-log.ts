import { HubError } from '../errors.ts';
import { systemClock } from '../flow/clock.ts';
import type { EventLog, NewEvent } from './event-log.ts';
import { EventTail, type EventTailOptions } from './event-tail.ts';

export interface MemoryEventLogOptions extends EventTailOptions {
  /** The epoch. Default: the time of its making in Unix ms, so that the next process has a higher one. */
  readonly epoch?: number | undefined;
}

/** An event log that lives and dies with its process, bounded in count, bytes, age and channels. */
export function memoryEventLog(options: MemoryEventLogOptions = {}): EventLog {
  const epoch = options.epoch ?? (options.clock ?? systemClock).now();
  if (!Number.isSafeInteger(epoch) || epoch < 1) throw new HubError('invalid-argument', `${epoch} is not an epoch`);
  const tail = new EventTail(epoch, options);
  const stored = Promise.resolve();
  return {
    epoch,
    append(channel: string, event: NewEvent): Promise<void> | undefined {
      if (tail.isClosed) throw new HubError('unavailable', 'the event log is closed');
      const target = tail.open(channel);
      if (event.producer) {
        if (event.producer.seq <= (tail.heardFrom(target, event.producer.id) ?? 0))
          return event.durable ? stored : undefined;
        tail.hear(target, event.producer.id, event.producer.seq);
      }
      tail.add(target, event, 'kept');
      return event.durable ? stored : undefined;
    },
    appendStep(channel, source, step) {
      if (tail.isClosed) throw new HubError('unavailable', 'the event log is closed');
      tail.addStep(channel, source, step, 'kept');
      return undefined;
    },
    isOpen: (channel) => tail.isOpen(channel),
    read(channel, after, limit) {
      tail.recall(channel);
      return tail.read(channel, after, limit);
    },
    end(channel) {
      tail.recall(channel);
      return tail.end(channel);
    },
    recallCommands(known) {
      tail.history = known;
    },
    beginCommand: (channel, history) => tail.begin(channel, history),
    watch: (channel, wake) => tail.watch(channel, wake),
    lastFrom(channel, producerId) {
      const target = tail.find(channel);
      return Promise.resolve((target && tail.heardFrom(target, producerId)) ?? 0);
    },
    close() {
      tail.close();
      return Promise.resolve();
    },
  };
}
