import { memoryEventLog } from '../events/memory-event-log.ts';
import { memoryCommandStore } from '../hub/index.ts';
import { openSqlite } from '../sqlite/index.ts';
import { memoryRunStore } from '../tasks/index.ts';
import type { Observe } from './facts.ts';
import type { ResolvedOptions } from './options.ts';
import type { Parts } from './parts.ts';
import type { Stores } from './stores.ts';

/** Opens what keeps the state of this process: Redis, SQLite, or its own memory. */
export async function openStores(options: ResolvedOptions, parts: Parts, observe: Observe): Promise<Stores> {
  if (options.redis !== undefined) {
    const { openShared } = await import('./shared-stores.ts');
    return openShared(options, options.redis, parts, observe);
  }
  const { data } = options;
  if (data === ':memory:') {
    const log = parts.add('event log', memoryEventLog(), (each) => each.close());
    const commands = parts.add('command store', memoryCommandStore(), (each) => each.close());
    return { log, commands, runs: memoryRunStore() };
  }
  const { log, commands, runs, archive } = parts.add('store', await openSqlite({ directory: data, observe }), (each) =>
    each.close(),
  );
  return { log, commands, runs, archive };
}
