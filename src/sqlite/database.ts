import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { HubError } from '../errors.ts';
import type { Database } from './driver.ts';
import { migrate } from './schema.ts';

export const databaseFile = 'signalbox.db';
export const lockFile = 'signalbox.lock';

export interface DatabaseOptions {
  /** A directory, or `:memory:`. */
  readonly directory: string;
  readonly busyTimeoutMs: number;
  /** The database may not grow beyond this. */
  readonly maxBytes: number;
}

export interface OpenedDatabase {
  readonly db: Database;
  /** Closes the database and lets the next process have the directory. */
  close(): void;
}

/** Opens the one database of a data directory, makes it where there is none, and keeps other processes out. */
export function openDatabase(options: DatabaseOptions): OpenedDatabase {
  const { directory } = options;
  if (directory === ':memory:') {
    const db = new Sqlite(':memory:');
    prepare(db, directory, options);
    return { db, close: () => db.close() };
  }
  makeDirectory(directory);
  const lock = takeLock(directory);
  const path = join(directory, databaseFile);
  let db: Database | undefined;
  try {
    // Made by us, before SQLite would: -wal and -shm take their mode from it.
    if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
    chmodSync(path, 0o600);
    db = new Sqlite(path, { timeout: options.busyTimeoutMs });
    prepare(db, path, options);
  } catch (error) {
    db?.close();
    lock.close();
    throw explainOpening(error, path);
  }
  const opened = db;
  return {
    db: opened,
    close() {
      opened.close();
      lock.close();
    },
  };
}

function prepare(db: Database, path: string, { maxBytes }: DatabaseOptions): void {
  migrate(db, path);
  const mode = db.pragma('journal_mode = WAL', { simple: true });
  if (mode !== 'wal' && path !== ':memory:')
    throw new HubError('unavailable', `${path} cannot use a write-ahead log on this file system (mode ${mode})`);
  db.pragma('synchronous = FULL');
  // In pages, four times the default: most of what changes is the same few pages again, each copied once.
  db.pragma('wal_autocheckpoint = 4000');
  db.pragma('journal_size_limit = 67108864');
  db.pragma('cell_size_check = ON');
  const pageSize = db.pragma('page_size', { simple: true }) as number;
  if (Number.isFinite(maxBytes)) db.pragma(`max_page_count = ${Math.max(Math.floor(maxBytes / pageSize), 16)}`);
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const reason =
      code === 'EEXIST' || code === 'ENOTDIR'
        ? 'is not a directory'
        : `cannot be made (${code ?? error}): make it yourself, writable for this user`;
    throw new HubError('unavailable', `data directory ${directory} ${reason}`, { cause: error });
  }
}

/** The lock is a lock of the operating system on an empty database, so that it goes with its process, however that ends. */
function takeLock(directory: string): Database {
  const path = join(directory, lockFile);
  let lock: Database | undefined;
  try {
    if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
    lock = new Sqlite(path, { timeout: 250 });
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock?.close();
    if (sqliteCode(error).startsWith('SQLITE_BUSY'))
      throw new HubError(
        'unavailable',
        `data directory ${directory} is in use by another process: stop it, or choose another directory`,
        { cause: error },
      );
    throw explainOpening(error, path);
  }
}

/** The code of an error that SQLite threw; `''` for others. */
export function sqliteCode(error: unknown): string {
  return error instanceof Sqlite.SqliteError ? error.code : '';
}

/** Says in plain words why a database cannot be opened, and what to do. */
export function explainOpening(error: unknown, path: string): HubError {
  if (error instanceof HubError) return error;
  const code = sqliteCode(error) || ((error as NodeJS.ErrnoException).code ?? '');
  return new HubError('unavailable', `${path} ${openingProblem(code, error)}`, { cause: error });
}

function openingProblem(code: string, error: unknown): string {
  if (code === 'SQLITE_NOTADB') return 'is not a database: move it away, or choose another data directory';
  if (code.startsWith('SQLITE_CORRUPT'))
    return 'is damaged: keep a copy, then restore a backup, or move it away to start empty';
  if (code === 'EROFS')
    return 'cannot be written: its file system is read-only (EROFS), as after a fault of the disk: check it, mount it writable, then start again';
  if (code.startsWith('SQLITE_READONLY') || code === 'EACCES' || code === 'EPERM')
    return `cannot be written (${code}): this user needs write permission for the directory and its files`;
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED'))
    return 'is locked by another program: close it there';
  if (code === 'SQLITE_FULL' || code === 'ENOSPC') return 'cannot be written: no space left on the disk';
  return `cannot be opened: ${error instanceof Error ? error.message : error}${code ? ` (${code})` : ''}`;
}
