import { memoryEventLog } from '../events/memory-event-log.ts';
import { memoryCommandStore } from '../hub/index.ts';
import type { OpenSearchAuth } from '../opensearch/index.ts';
import { openSqlite } from '../sqlite/index.ts';
import { memoryRunStore } from '../tasks/index.ts';
import type { Observe } from './facts.ts';
import { awsCredentials, awsRegion } from './load-options.ts';
import type { ResolvedOptions } from './options.ts';
import type { Parts } from './parts.ts';
import type { Stores } from './stores.ts';

/** Opens what keeps the state of this process: Redis, SQLite, or its own memory, and an archive beside it. */
export async function openStores(
  options: ResolvedOptions,
  parts: Parts,
  observe: Observe,
  signal?: AbortSignal,
): Promise<Stores> {
  const stores = await openOwn(options, parts, observe, signal);
  if (options.opensearch === undefined) return stores;
  const { archivedLog, openSearchArchive } = await import('../opensearch/index.ts');
  const { opensearch: node, opensearchPrefix: indexPrefix } = options;
  const archive = openSearchArchive({ node, indexPrefix, auth: openSearchAuth(options), observe });
  parts.add('archive', archive, (each) => each.close());
  return { ...stores, archive, log: archivedLog(stores.log, archive) };
}

function openSearchAuth({
  opensearchAuth: kind,
  opensearchUsername,
  opensearchPassword,
}: ResolvedOptions): OpenSearchAuth {
  switch (kind) {
    case 'none':
      return { kind };
    case 'basic':
      return { kind, username: opensearchUsername ?? '', password: opensearchPassword ?? '' };
    case 'aws':
      return { kind, region: awsRegion(), credentials: () => awsCredentials() };
    default:
      return kind satisfies never;
  }
}

async function openOwn(
  options: ResolvedOptions,
  parts: Parts,
  observe: Observe,
  signal: AbortSignal | undefined,
): Promise<Stores> {
  if (options.redis !== undefined) {
    const { openShared } = await import('./shared-stores.ts');
    return openShared(options, options.redis, parts, observe, signal);
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
