import type { AddOptions, AddOutcome, CommandStore } from '../hub/command-store.ts';
import type { Command, TerminalUpdate } from '../protocol/command.ts';
import { addValues, commandValues, endValues } from './command-values.ts';
import { eventValues } from './event-values.ts';
import type { SqliteEventLog } from './sqlite-event-log.ts';
import type { StoreThread } from './store-thread.ts';

/** Ended commands forgotten in one transaction, so that others get their turn in between. */
const pruneSlice = 500;

// Chains of `then` where async functions would read as well: each of those keeps its whole frame for as long as it
// waits, and a hundred queued commands wait at any time.
/**
 * Keeps queued commands in SQLite, and tells their ends in `log`, which is in the same database. A promise that resolves
 * means: on disk. `close` belongs to the thread's owner.
 */
export function sqliteCommandStore(thread: StoreThread, log: SqliteEventLog): CommandStore {
  return {
    add(command, options) {
      const bytes = command.payload.value.byteLength + 512;
      return thread
        .call('add', [commandValues(command), addValues(options)], bytes)
        .then((outcome) => outcomeOf(outcome, command, options));
    },
    markSent: (marks, journal) => thread.call('markSent', [marks, journal], 64 * marks.length),
    advance: (id, state, atMs) => thread.call('advance', [id, state, atMs], 128),
    finish: (update) =>
      thread.call('finish', [endValues(update)], bytesOf(update)).then((standing) => standing ?? update),
    teller: {
      log,
      finish: (update, { channel, source, step }) =>
        log
          .appendStepWith(channel, source, step, (row, nowMs) => {
            const bytes = bytesOf(update) + row.data.length + 256;
            return thread.call('finishTold', [endValues(update), eventValues(row), nowMs], bytes);
          })
          .then((standing) => standing ?? update),
    },
    get: (id) => thread.call('get', [id]),
    mailbox: (tenant, clientId, after, limit) => thread.call('mailbox', [tenant, clientId, after, limit]),
    due: (nowMs, limit) => thread.call('due', [nowMs, limit]),
    list: (filter) => thread.call('list', [filter]),
    count: (tenant, clientId) => thread.call('count', [tenant, clientId]),
    async prune({ endedBeforeMs, maxEnded }) {
      let forgotten = 0;
      for (;;) {
        const count = await thread.call('pruneCommands', [endedBeforeMs, maxEnded, pruneSlice]);
        forgotten += count;
        if (count === 0) return forgotten;
      }
    },
    async close() {
      // The thread is shared with the event log; `SqliteStore.close` closes it.
    },
  };
}

function bytesOf(update: TerminalUpdate): number {
  return update.state === 'succeeded' ? update.result.value.byteLength + 512 : 512;
}

/** What comes back for a new command is a copy of what the caller holds anyway, or its position alone. */
function outcomeOf(outcome: number | AddOutcome, command: Command, options: AddOptions): AddOutcome {
  if (typeof outcome !== 'number')
    return outcome.kind === 'stored' ? { ...outcome, stored: { ...outcome.stored, command } } : outcome;
  const { nowMs: acceptedAtMs, dueAtMs, sentToJournal } = options;
  const last = { commandId: command.id, clientId: command.clientId, atMs: acceptedAtMs, state: 'queued' } as const;
  const stored = { command, position: outcome, acceptedAtMs, dueAtMs, sentToJournal, last };
  return { kind: 'stored', stored, superseded: [] };
}
