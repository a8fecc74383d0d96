import type { CommandStore } from '../hub/command-store.ts';
import type { Payload } from '../protocol/command.ts';
import type { StoreThread } from './store-thread.ts';

/** Ended commands forgotten in one transaction, so that others get their turn in between. */
const pruneSlice = 500;

/** Keeps queued commands in SQLite. A promise that resolves means: on disk. `close` belongs to the thread's owner. */
export function sqliteCommandStore(thread: StoreThread): CommandStore {
  return {
    async add(command, options) {
      const payload = owned(command.payload);
      const outcome = await thread.call('add', [{ ...command, payload }, options], payload.value.byteLength + 512);
      // What comes back for a new command is a copy of what the caller holds anyway.
      return outcome.kind === 'stored' ? { ...outcome, stored: { ...outcome.stored, command } } : outcome;
    },
    markSent: (marks, journal) => thread.call('markSent', [marks, journal], 64 * marks.length),
    advance: (id, state, atMs) => thread.call('advance', [id, state, atMs], 128),
    finish(update) {
      if (update.state !== 'succeeded') return thread.call('finish', [update], 512);
      const result = owned(update.result);
      return thread.call('finish', [{ ...update, result }], result.value.byteLength + 512);
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

/** A small view of a large buffer would be sent to the thread with all of the buffer. */
function owned({ type, value }: Payload): Payload {
  return { type, value: value.byteLength === value.buffer.byteLength ? value : new Uint8Array(value) };
}
