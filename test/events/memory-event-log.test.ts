import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { eventLogContract } from '../contracts/event-log.ts';

eventLogContract('memory', async (options) => {
  const log = memoryEventLog(options);
  return { log, close: () => log.close() };
});
