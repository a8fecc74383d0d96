import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { openSqlite, type SqliteStore } from '../../src/sqlite/index.ts';
import { applicationId, migrations } from '../../src/sqlite/schema.ts';
import { addOptions, queuedCommand } from '../contracts/command-store.ts';
import { newEvent, readAll } from '../contracts/event-log.ts';
import { costsNothing } from '../support/footprint.ts';
import { scratchFolder } from '../support/scratch.ts';

// A store that works, in the same process as those that must not open.
const folder = scratchFolder('signalbox-bad-files-');
const healthy = join(folder, 'healthy');
let working: SqliteStore;
let kept = 0;

beforeAll(async () => {
  chmodSync(folder, 0o711); // somebody else has to get into what is below it
  working = await openSqlite({ directory: healthy });
});
afterAll(async () => {
  await working.close();
  rmSync(folder, { recursive: true });
});

async function stillWell(): Promise<void> {
  const command = queuedCommand({ clientId: `client-${kept}` });
  expect(await working.commands.add(command, addOptions())).toMatchObject({ kind: 'stored' });
  await working.log.append('t/a', newEvent(++kept, { durable: true }));
  expect((await readAll(working.log, 't/a')).numbers.at(-1)).toBe(kept);
}

const database = (path: string, work: (db: Sqlite.Database) => void): void => {
  const db = new Sqlite(path);
  work(db);
  db.close();
};
const ours = (path: string): void =>
  database(path, (db) => {
    for (const migration of migrations) db.exec(migration);
    db.pragma(`application_id = ${applicationId}`);
    db.pragma(`user_version = ${migrations.length}`);
  });
const held = new Set<Sqlite.Database>();

interface Bad {
  readonly name: string;
  readonly make: (path: string) => void;
  readonly says: string;
  readonly busyTimeoutMs?: number;
  /** Modes of the directory and of what is in it; it is opened by somebody who is not root. */
  readonly modes?: readonly [directory: number, file: number];
}

/** What is found where the database should be, and what is said of it. */
const catalogue: Bad[] = [
  {
    name: 'text',
    make: (path) => writeFileSync(path, 'Dear diary, '.repeat(1000)),
    says: '<file> is not a database: move it away, or choose another data directory',
  },
  {
    name: 'a directory',
    make: (path) => mkdirSync(path),
    says: '<file> cannot be opened: unable to open database file (SQLITE_CANTOPEN)',
  },
  {
    name: 'a database of another program',
    make: (path) => database(path, (db) => db.exec('CREATE TABLE theirs (x)')),
    says: '<file> is a database of another program (application id 0): choose another data directory',
  },
  {
    name: 'another application id',
    make: (path) => database(path, (db) => db.pragma('application_id = 7')),
    says: '<file> is a database of another program (application id 7): choose another data directory',
  },
  {
    name: 'a newer schema',
    make: (path) =>
      database(path, (db) => {
        db.pragma(`application_id = ${applicationId}`);
        db.pragma('user_version = 999');
      }),
    says: `<file> has schema version 999, newer than this Signalbox knows (${migrations.length}): run the newer Signalbox, or restore a backup from before it`,
  },
  {
    name: 'an older schema that cannot be brought up to date',
    make: (path) =>
      database(path, (db) => {
        db.exec(migrations[0]!);
        db.exec('CREATE TABLE commands_ended (x)');
        db.pragma(`application_id = ${applicationId}`);
        db.pragma('user_version = 1');
      }),
    says: '<file> cannot be opened: there is already a table named commands_ended (SQLITE_ERROR)',
  },
  {
    name: 'a database that another program has locked',
    make: (path) => {
      ours(path);
      const db = new Sqlite(path);
      db.pragma('locking_mode = EXCLUSIVE');
      db.exec('BEGIN EXCLUSIVE');
      held.add(db);
    },
    busyTimeoutMs: 20,
    says: '<file> is locked by another program: close it there',
  },
  {
    name: 'a directory that may only be read',
    make: ours,
    modes: [0o500, 0o600],
    says: '<directory>/signalbox.lock cannot be written (EACCES): this user needs write permission for the directory and its files',
  },
  {
    name: 'the first page of a database',
    make: (path) => {
      ours(path);
      truncateSync(path, 4096);
    },
    says: '<file> is damaged: keep a copy, then restore a backup, or move it away to start empty',
  },
  {
    name: 'a database with garbage for a schema',
    make: (path) => {
      ours(path);
      const bytes = readFileSync(path);
      bytes.fill('garbage', 100, 4096);
      writeFileSync(path, bytes);
    },
    says: '<file> is damaged: keep a copy, then restore a backup, or move it away to start empty',
  },
  {
    name: 'a database beside a write-ahead log of garbage',
    make: (path) => {
      ours(path);
      writeFileSync(`${path}-wal`, 'garbage '.repeat(5000), { mode: 0o600 });
    },
    says: 'it opened',
  },
  {
    name: 'a database beside half a write-ahead log',
    make: (path) => {
      ours(path);
      const db = new Sqlite(path);
      db.pragma('journal_mode = WAL');
      db.exec('INSERT INTO epochs VALUES (5, 5)');
      const wal = readFileSync(`${path}-wal`);
      db.close();
      writeFileSync(`${path}-wal`, wal.subarray(0, Math.floor(wal.length / 2)), { mode: 0o600 });
    },
    says: 'it opened',
  },
];

const somebody = 65_534;
const isRoot = process.geteuid?.() === 0;

/** Opens it; with `modes` as somebody who may do no more than they say, which root could. */
async function opening(options: { directory: string; busyTimeoutMs: number | undefined }, modes: Bad['modes']) {
  if (!modes) return openSqlite(options);
  const all = [options.directory, ...readdirSync(options.directory).map((name) => join(options.directory, name))];
  for (const [at, path] of all.entries()) {
    if (isRoot) chownSync(path, somebody, somebody);
    chmodSync(path, modes[at === 0 ? 0 : 1]);
  }
  if (isRoot) process.seteuid!(somebody);
  try {
    return await openSqlite(options);
  } finally {
    if (isRoot) process.seteuid!(0);
    for (const path of all) chmodSync(path, 0o700);
  }
}

let directories = 0;
async function answer({ make, busyTimeoutMs, modes }: Bad): Promise<string> {
  const directory = join(folder, String(directories++));
  mkdirSync(directory, { mode: 0o700 });
  const file = join(directory, 'signalbox.db');
  make(file);
  const before = statSync(file).isFile() ? readFileSync(file) : undefined;
  const said = await opening({ directory, busyTimeoutMs }, modes).then(
    async (store) => {
      const command = queuedCommand();
      await store.commands.add(command, addOptions());
      expect(await store.commands.get(command.id)).toBeDefined();
      await store.close();
      return 'it opened';
    },
    (error: unknown) => {
      expect(toHubError(error).code).toBe('unavailable');
      // What is not ours, or cannot be read, is left as it was.
      if (before) expect(readFileSync(file).equals(before)).toBe(true);
      return toHubError(error).message;
    },
  );
  for (const db of held) db.close();
  held.clear();
  rmSync(directory, { recursive: true });
  return said.replaceAll(file, '<file>').replaceAll(directory, '<directory>');
}

test.each(catalogue)('$name in place of the database is answered, and the store beside it goes on', async (row) => {
  expect(await answer(row)).toBe(row.says);
  await stillWell();
});

test('a directory that another store has open is refused, and that one goes on', async () => {
  const refused = await openSqlite({ directory: healthy }).catch(toHubError);
  expect(refused).toMatchObject({
    code: 'unavailable',
    message: `data directory ${healthy} is in use by another process: stop it, or choose another directory`,
  });
  await stillWell();
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      for (const row of catalogue) await answer(row);
    },
    { times: 5, warmUp: 2 },
  );
  await stillWell();
});
