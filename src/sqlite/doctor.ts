import { constants, copyFileSync, existsSync, mkdtempSync, rmSync, type Stats, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { secretFile } from '../auth/ensure-secret.ts';
import { databaseFile, explainOpening, lockFile, sqliteCode } from './database.ts';
import type { Database } from './driver.ts';
import { checkOwner, migrations } from './schema.ts';

export interface Finding {
  /** `error`: a hub cannot work with this directory. `warning`: it can, but somebody should look at it. */
  readonly severity: 'ok' | 'warning' | 'error';
  /** What was looked at. */
  readonly subject: 'directory' | 'permissions' | 'in-use' | 'database' | 'schema' | 'integrity' | 'wal' | 'disk';
  readonly message: string;
  /** What to do; absent where nothing is to be done. */
  readonly advice?: string | undefined;
}

export interface DoctorReport {
  readonly directory: string;
  /** True when there is no `error` among the findings. */
  readonly isHealthy: boolean;
  readonly findings: readonly Finding[];
  /** Absent where there is no database of ours that can be read. */
  readonly contents?: DatabaseContents | undefined;
}

export interface DatabaseContents {
  readonly schemaVersion: number;
  readonly databaseBytes: number;
  readonly walBytes: number;
  readonly pendingCommands: number;
  readonly endedCommands: number;
  /** Unix ms at which the oldest pending command was accepted. */
  readonly oldestPendingAtMs: number | undefined;
  readonly events: number;
  readonly channels: number;
  /** Unix ms at which the oldest durable event was kept. */
  readonly oldestEventAtMs: number | undefined;
}

const largeWalBytes = 256 * 2 ** 20;
const lowDiskBytes = 512 * 2 ** 20;
const noDiskBytes = 16 * 2 ** 20;

/** Looks at a data directory, whether a hub runs on it or not, and says what is wrong and what to do. Changes nothing. */
export async function doctor(directory: string): Promise<DoctorReport> {
  const findings: Finding[] = [];
  const say = (severity: Finding['severity'], subject: Finding['subject'], message: string, advice?: string) =>
    findings.push(advice === undefined ? { severity, subject, message } : { severity, subject, message, advice });
  const contents = examine(directory, say);
  return { directory, isHealthy: findings.every(({ severity }) => severity !== 'error'), findings, contents };
}

type Say = (severity: Finding['severity'], subject: Finding['subject'], message: string, advice?: string) => void;

function examine(directory: string, say: Say): DatabaseContents | undefined {
  const folder = statOf(directory);
  if (!folder?.isDirectory()) {
    if (folder) say('error', 'directory', `${directory} is not a directory`, 'name a directory with --data');
    else say('error', 'directory', `${directory} does not exist`, 'check --data; `signalbox serve` makes a new one');
    return undefined;
  }
  say('ok', 'directory', `${directory} exists`);
  examinePermissions(directory, folder, say);
  examineDisk(directory, say);

  const path = join(directory, databaseFile);
  const file = statOf(path);
  if (!file) {
    say('warning', 'database', `there is no ${databaseFile}`, 'a hub makes it when it starts with this directory');
    return undefined;
  }
  const walBytes = statOf(`${path}-wal`)?.size ?? 0;
  if (walBytes > largeWalBytes)
    say(
      'warning',
      'wal',
      `the write-ahead log has ${walBytes} bytes`,
      'something reads the database for very long: end it, or restart the hub',
    );
  else say('ok', 'wal', `the write-ahead log has ${walBytes} bytes`);

  const isInUse = isLocked(join(directory, lockFile));
  say('ok', 'in-use', isInUse ? 'a hub runs on it' : 'no hub runs on it');
  let opened: { readonly db: Database; close(): void } | undefined;
  try {
    opened = isInUse ? openInUse(path) : openCopy(path);
    return examineDatabase(opened.db, path, { databaseBytes: file.size, walBytes }, say);
  } catch (error) {
    say('error', 'database', explainOpening(error, path).message);
    return undefined;
  } finally {
    opened?.close();
  }
}

function examinePermissions(directory: string, folder: Stats, say: Say): void {
  const names = [databaseFile, `${databaseFile}-wal`, `${databaseFile}-shm`, lockFile];
  const open = names.filter((name) => ((statOf(join(directory, name))?.mode ?? 0) & 0o077) !== 0);
  if ((folder.mode & 0o077) !== 0) open.unshift(directory);
  if (open.length === 0) say('ok', 'permissions', 'only their owner can read the files');
  else
    say(
      'warning',
      'permissions',
      `other users can get at ${open.join(', ')}`,
      `chmod 700 ${directory} && chmod 600 ${join(directory, 'signalbox.*')}`,
    );
  const secret = join(directory, secretFile);
  if (((statOf(secret)?.mode ?? 0) & 0o077) !== 0)
    say(
      'error',
      'permissions',
      `other users can read the secret that signs tokens, ${secret}`,
      `chmod 600 ${secret}, or delete it to get a new one: tokens of the old one end with it`,
    );
  const user = process.getuid?.();
  if (user !== undefined && user !== 0 && folder.uid !== user)
    say('warning', 'permissions', `${directory} belongs to user ${folder.uid}, you are ${user}`);
}

function examineDisk(directory: string, say: Say): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  const message = `${Math.floor(free / 2 ** 20)} MiB of disk are free`;
  if (free < noDiskBytes) say('error', 'disk', message, 'free some: a hub cannot store commands without');
  else if (free < lowDiskBytes) say('warning', 'disk', message, 'free some before it is full');
  else say('ok', 'disk', message);
}

function examineDatabase(
  db: Database,
  path: string,
  sizes: Pick<DatabaseContents, 'databaseBytes' | 'walBytes'>,
  say: Say,
): DatabaseContents | undefined {
  const schemaVersion = checkOwner(db, path);
  if (schemaVersion === 0) {
    say('warning', 'schema', `${path} is empty`, 'a hub fills it when it starts with this directory');
    return undefined;
  }
  const known = migrations.length;
  if (schemaVersion === known) say('ok', 'schema', `schema version ${schemaVersion} is the newest`);
  else say('ok', 'schema', `schema version ${schemaVersion}: the next start brings it to ${known}`);

  const problems = db.prepare<[], string>('PRAGMA integrity_check(20)').pluck().all() as string[];
  if (problems.length === 1 && problems[0] === 'ok') say('ok', 'integrity', 'the database is sound');
  else
    say(
      'error',
      'integrity',
      `the database is damaged: ${problems.join('; ')}`,
      'stop the hub, keep a copy of the directory, then restore a backup',
    );
  const number = (sql: string) => (db.prepare(sql).pluck().get() as number | null) ?? undefined;
  return {
    ...sizes,
    schemaVersion,
    pendingCommands: number('SELECT count(*) FROM commands WHERE ended_at_ms IS NULL') ?? 0,
    endedCommands: number('SELECT count(*) FROM commands WHERE ended_at_ms IS NOT NULL') ?? 0,
    oldestPendingAtMs: number('SELECT min(accepted_at_ms) FROM commands WHERE ended_at_ms IS NULL'),
    events: number('SELECT count(*) FROM events') ?? 0,
    channels: number('SELECT count(*) FROM channels') ?? 0,
    oldestEventAtMs: number('SELECT kept_ms FROM events ORDER BY id LIMIT 1'),
  };
}

/** While a hub has it open, all its files are there, and reading makes no new ones. */
function openInUse(path: string): { readonly db: Database; close(): void } {
  const db = new Sqlite(path, { readonly: true, timeout: 5000 });
  return { db, close: () => db.close() };
}

/** Nobody has it open: even a reader would leave files beside it, or take the log of a killed hub into it. */
function openCopy(path: string): { readonly db: Database; close(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'signalbox-doctor-'));
  try {
    const copy = join(folder, databaseFile);
    copyFileSync(path, copy, constants.COPYFILE_FICLONE);
    if (existsSync(`${path}-wal`)) copyFileSync(`${path}-wal`, `${copy}-wal`, constants.COPYFILE_FICLONE);
    const db = new Sqlite(copy);
    const close = () => {
      db.close();
      rmSync(folder, { recursive: true, force: true });
    };
    return { db, close };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

function isLocked(path: string): boolean {
  if (!existsSync(path)) return false;
  let lock: Database | undefined;
  try {
    lock = new Sqlite(path, { readonly: true, timeout: 0 });
    lock.pragma('user_version');
    return false;
  } catch (error) {
    return sqliteCode(error).startsWith('SQLITE_BUSY');
  } finally {
    lock?.close();
  }
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
