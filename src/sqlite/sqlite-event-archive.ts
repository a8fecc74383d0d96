import { HubError } from '../errors.ts';
import type { ArchivedEvent, EventArchive } from '../events/event-archive.ts';
import type { StoreThread } from './store-thread.ts';

/** Most windows of events that are looked through for one page. */
const maxWindows = 20;

/** Looks through the stored events themselves: it goes back as far as they are kept. `close` belongs to the thread's owner. */
export function sqliteEventArchive(thread: StoreThread): EventArchive {
  return {
    async query(query) {
      let before = 0;
      if (query.after !== undefined) {
        before = Number(query.after);
        if (!/^\d{1,15}$/.test(query.after) || before < 1)
          throw new HubError(
            'invalid-argument',
            `after ${JSON.stringify(query.after.slice(0, 100))} is not of this archive`,
          );
      }
      const events: ArchivedEvent[] = [];
      for (let i = 0; i < maxWindows; i++) {
        const found = await thread.call('searchEvents', [{ ...query, limit: query.limit - events.length }, before]);
        events.push(...found.events);
        before = found.next;
        if (before === 0 || events.length >= query.limit) break;
      }
      return { events, next: before === 0 ? undefined : String(before) };
    },
    async close() {
      // The thread is shared with the event log; `SqliteStore.close` closes it.
    },
  };
}
