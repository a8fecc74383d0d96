import type { AddOutcome, CommandStore } from '../hub/command-store.ts';
import type { Command } from '../protocol/command.ts';
import { addValues, commandValues, endValues } from './command-values.ts';
import type { StoreThread } from './store-thread.ts';

/** Ended commands forgotten in one transaction, so that others get their turn in between. */
const pruneSlice = 500;

/** Keeps queued commands in SQLite. A promise that resolves means: on disk. `close` belongs to the thread's owner. */
export function sqliteCommandStore(thread: StoreThread): CommandStore {
  return {
    async add(command, options) {
      const bytes = command.payload.value.byteLength + 512;
      const outcome = await thread.call('add', [commandValues(command), addValues(options)], bytes);
      if (typeof outcome !== 'number') return outcome.kind === 'stored' ? keepCommand(outcome, command) : outcome;
      const { nowMs: acceptedAtMs, dueAtMs, sentToJournal } = options;
      const last = { commandId: command.id, clientId: command.clientId, atMs: acceptedAtMs, state: 'queued' } as const;
      const stored = { command, position: outcome, acceptedAtMs, dueAtMs, sentToJournal, last };
      return { kind: 'stored', stored, superseded: [] };
    },
    markSent: (marks, journal) => thread.call('markSent', [marks, journal], 64 * marks.length),
    advance: (id, state, atMs) => thread.call('advance', [id, state, atMs], 128),
    async finish(update) {
      const bytes = update.state === 'succeeded' ? update.result.value.byteLength + 512 : 512;
      return (await thread.call('finish', [endValues(update)], bytes)) ?? update;
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

/** What comes back for a new command is a copy of what the caller holds anyway. */
function keepCommand(outcome: Extract<AddOutcome, { kind: 'stored' }>, command: Command): AddOutcome {
  return { ...outcome, stored: { ...outcome.stored, command } };
}
