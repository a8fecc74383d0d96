import { randomUUID } from 'node:crypto';
import type { Journal } from './journal.ts';
import { JournalIndex, type JournalLimits } from './journal-index.ts';

/** A journal that lives as long as the process: a restart of the device is a new lineage. */
export function memoryJournal(limits: JournalLimits = {}): Journal {
  const index = new JournalIndex(limits);
  return {
    id: randomUUID(),
    lookup: (commandId) => index.lookup(commandId),
    begin: (commandId, { idempotent }) => void index.begin(commandId, idempotent),
    finish: (commandId, result) => void index.finish(commandId, result),
    unacknowledged: () => index.unacknowledged(),
    retire: (commandIds) => void index.retire(commandIds),
    close: () => Promise.resolve(),
  };
}
