// Bare better-sqlite3, as durable as ours: WAL, every transaction synced.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Database from 'better-sqlite3';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-bench-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
const database = new Database(path.join(directory, 'bench.db'));
database.pragma('journal_mode = WAL');
database.pragma('synchronous = FULL');
database.exec('CREATE TABLE command (id INTEGER PRIMARY KEY, payload BLOB, state TEXT)');
const insert = database.prepare('INSERT INTO command (payload, state) VALUES (?, ?)');

export const verbs = actor({
  transactions({ seconds, bytes }: { seconds: number; bytes: number }) {
    const payload = blobOf(bytes);
    return closedLoop(1, seconds, async () => insert.run(payload, 'queued'));
  },
});
export type SqliteVerbs = typeof verbs;
