// No-op tasks on the embedded store: each kept, claimed, started, settled and told, as durable as SQLite makes it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openSqlite } from '../../src/sqlite/index.ts';
import { actor } from '../actor.ts';
import { noOpTasks } from '../no-op-tasks.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-bench-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
const store = await openSqlite({ directory });
const { runs, starts } = await noOpTasks({ log: store.log, store: store.runs, concurrency: 500 });

export const verbs = actor({ runs, starts });
export type TasksVerbs = typeof verbs;
