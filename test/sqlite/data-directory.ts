import { rmSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { openSqlite, type SqliteOptions, type SqliteStore } from '../../src/sqlite/index.ts';
import { scratchFolder } from '../support/scratch.ts';

/** An empty directory that goes with the test. */
export function emptyDirectory(): string {
  const directory = scratchFolder('signalbox-test-');
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A store that is closed with the test. */
export async function openStore(directory: string, options: Partial<SqliteOptions> = {}): Promise<SqliteStore> {
  const store = await openSqlite({ directory, ...options });
  onTestFinished(() => store.close());
  return store;
}
