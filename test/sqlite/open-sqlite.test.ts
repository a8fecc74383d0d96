import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Sqlite from 'better-sqlite3';
import { expect, test } from 'vitest';
import { openSqlite } from '../../src/sqlite/index.ts';
import { applicationId, migrations } from '../../src/sqlite/schema.ts';
import { addOptions, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { newEvent, readAll } from '../contracts/event-log.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

const databaseOf = (directory: string) => join(directory, 'signalbox.db');

test('a data directory that is not there is made, for its owner only', async () => {
  const directory = join(emptyDirectory(), 'deep', 'data');
  const store = await openStore(directory);
  await store.commands.add(queuedCommand(), addOptions());
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  for (const name of readdirSync(directory))
    expect([name, statSync(join(directory, name)).mode & 0o777]).toEqual([name, 0o600]);
  expect(readdirSync(directory)).toContain('signalbox.db-wal');
});

test('what was accepted is there after a restart, and so are keys, states and positions', async () => {
  const directory = emptyDirectory();
  const first = await openSqlite({ directory });
  const pending = queuedCommand({ idempotencyKey: 'k' });
  const ended = queuedCommand();
  await first.commands.add(pending, addOptions());
  await first.commands.add(ended, addOptions());
  await first.commands.finish(succeeded(ended));
  const before = [await first.commands.get(pending.id), await first.commands.get(ended.id)];
  await first.close();

  const { commands } = await openStore(directory);
  expect([await commands.get(pending.id), await commands.get(ended.id)]).toEqual(before);
  expect(await commands.add(queuedCommand({ idempotencyKey: 'k' }), addOptions())).toMatchObject({ kind: 'existing' });
  const outcome = await commands.add(queuedCommand(), addOptions({ maxCommands: 2 }));
  expect(outcome).toMatchObject({ kind: 'stored', stored: { position: 3 } });
  expect(await commands.add(queuedCommand(), addOptions({ maxCommands: 2 }))).toMatchObject({ kind: 'full' });
});

test('a second hub on the same directory is refused, and the first goes on', async () => {
  const directory = emptyDirectory();
  const store = await openStore(directory);
  await expect(openSqlite({ directory })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/in use by another process/),
  });
  await store.commands.add(queuedCommand(), addOptions());
  await store.close();
  await (await openSqlite({ directory })).close();
});

test('closing twice is closing once', async () => {
  const store = await openSqlite({ directory: emptyDirectory() });
  const write = store.commands.add(queuedCommand(), addOptions());
  await Promise.all([store.close(), store.close()]);
  expect(await write).toMatchObject({ kind: 'stored' });
});

test('what was asked for before a close is done and answered, however much it is', async () => {
  const store = await openSqlite({ directory: emptyDirectory() });
  const writes = Array.from({ length: 5000 }, () => store.commands.add(queuedCommand(), addOptions()));
  await store.close();
  const outcomes = await Promise.allSettled(writes);
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(5000);
});

test('a database of an older version is brought up to date, with what is in it', async () => {
  const directory = emptyDirectory();
  const old = new Sqlite(databaseOf(directory));
  old.exec(migrations[0]!);
  old.pragma(`application_id = ${applicationId}`);
  old.pragma('user_version = 1');
  old.exec(`INSERT INTO epochs VALUES (5, 5); INSERT INTO channels VALUES (1, 't/a', 1, 7);
    INSERT INTO events VALUES (1, 1, 5, 1, 'temperature', 1, ${Date.now()}, '{"n":1}')`);
  old.close();
  const store = await openStore(directory);
  expect((await readAll(store.log, 't/a')).numbers).toEqual([1]);
  await store.close();
  const now = new Sqlite(databaseOf(directory), { readonly: true });
  expect(now.pragma('user_version', { simple: true })).toBe(migrations.length);
  expect(now.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'commands_ended'").get()).toBeDefined();
  now.close();
});

test('a migration that fails leaves the older version as it was', async () => {
  const directory = emptyDirectory();
  const old = new Sqlite(databaseOf(directory));
  old.exec(migrations[0]!);
  old.exec('CREATE TABLE commands_ended (x)');
  old.pragma(`application_id = ${applicationId}`);
  old.pragma('user_version = 1');
  old.close();
  await expect(openSqlite({ directory })).rejects.toMatchObject({ code: 'unavailable' });
  const now = new Sqlite(databaseOf(directory), { readonly: true });
  expect(now.pragma('user_version', { simple: true })).toBe(1);
  now.close();
});

test('a data directory that is a file is refused', async () => {
  const path = join(emptyDirectory(), 'file');
  writeFileSync(path, '');
  await expect(openSqlite({ directory: path })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('is not a directory'),
  });
  await expect(openSqlite({ directory: '' })).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('a truncated or garbled write-ahead log loses no more than what it held, and never opens as something else', async () => {
  const directory = emptyDirectory();
  const kept = queuedCommand();
  const store = await openSqlite({ directory });
  await store.commands.add(kept, addOptions());
  await store.close();
  writeFileSync(`${databaseOf(directory)}-wal`, 'garbage '.repeat(5000), { mode: 0o600 });
  const again = await openStore(directory);
  expect(await again.commands.get(kept.id)).toBeDefined();
  await again.commands.add(queuedCommand(), addOptions());
});

test('a truncated database is refused or refuses, and never answers as if it were whole', async () => {
  const directory = emptyDirectory();
  const store = await openSqlite({ directory });
  const commands = Array.from({ length: 200 }, () =>
    queuedCommand({ payload: { type: 't', value: new Uint8Array(1000) } }),
  );
  await Promise.all(
    commands.map((command) => store.commands.add(command, addOptions({ maxCommands: 1000, maxBytes: 1e9 }))),
  );
  await store.close();
  truncateSync(databaseOf(directory), 40_960);
  const all = openSqlite({ directory }).then(async (damaged) => {
    try {
      await Promise.all(commands.map(({ id }) => damaged.commands.get(id)));
    } finally {
      await damaged.close();
    }
  });
  await expect(all).rejects.toMatchObject({ message: expect.stringMatching(/damaged|malformed|CORRUPT/) });
});

test('a directory without write permission is refused with what to do', async () => {
  const directory = emptyDirectory();
  chmodSync(directory, 0o500);
  const open = [fileURLToPath(new URL('./open-once.ts', import.meta.url)), directory];
  // Root may write anywhere, unless that right is taken from it.
  const asRoot = ['setpriv', '--bounding-set=-dac_override,-dac_read_search', process.execPath, ...open];
  const [program, ...args] = process.getuid?.() === 0 ? asRoot : [process.execPath, ...open];
  const { stdout, stderr } = spawnSync(program!, args, { encoding: 'utf8' });
  expect(stdout, stderr).toMatch(/^unavailable: .*write permission/);
  expect(existsSync(databaseOf(directory))).toBe(false);
});

test('events of an older epoch come before those of the new one, each once', async () => {
  const directory = emptyDirectory();
  const first = await openSqlite({ directory });
  for (const n of [1, 2, 3]) await first.log.append('t/a', newEvent(n, { durable: true }));
  await first.close();
  const { log } = await openStore(directory);
  expect(log.epoch).toBeGreaterThan(first.log.epoch);
  await log.append('t/a', newEvent(4, { durable: true }));
  log.append('t/a', newEvent(5));
  const position = { epoch: first.log.epoch, seq: 1 };
  const { found, numbers } = await readAll(log, 't/a', position);
  expect(found[0]).toEqual({ kind: 'reset', reason: 'restarted' });
  expect(numbers).toEqual([2, 3, 4, 5]);
  // Everything of older epochs that fits is one page.
  expect((await log.read('t/a', position, 100)).events.map(({ epoch }) => epoch)).toEqual([
    first.log.epoch,
    first.log.epoch,
  ]);
  expect((await readAll(log, 't/a', position, 1)).numbers).toEqual([2, 3, 4, 5]);
  expect((await readAll(log, 't/a')).numbers).toEqual([1, 2, 3, 4, 5]);
});

test('a producer that sends again after a restart is recognised', async () => {
  const directory = emptyDirectory();
  const send = (log: typeof first.log, n: number) =>
    log.append('t/a', newEvent(n, { durable: true, producer: { id: 'boot-1', seq: n } }));
  const first = await openSqlite({ directory });
  await Promise.all([send(first.log, 1), send(first.log, 2)]);
  await first.close();
  const { log } = await openStore(directory);
  await Promise.all([send(log, 1), send(log, 2), send(log, 3), send(log, 3)]);
  expect(await log.lastFrom('t/a', 'boot-1')).toBe(3);
  expect((await readAll(log, 't/a')).numbers).toEqual([1, 2, 3]);
});

test('durable events that the ring dropped come from the disk, with a gap for the volatile ones', async () => {
  const { log } = await openStore(':memory:', { memory: { ringEvents: 4 } });
  const writes = [];
  for (let n = 1; n <= 12; n++) writes.push(log.append('t/a', newEvent(n, { durable: n % 3 !== 0 })));
  await Promise.all(writes);
  const { found, numbers } = await readAll(log, 't/a');
  expect(numbers).toEqual([1, 2, 4, 5, 7, 8, 9, 10, 11, 12].filter((n) => n % 3 !== 0 || n > 8));
  expect(found.filter((item) => 'kind' in item)).toEqual([
    { kind: 'gap', epoch: log.epoch, from: 3, to: 3 },
    { kind: 'gap', epoch: log.epoch, from: 6, to: 6 },
  ]);
});

test('one call that cannot be done does not fail what is written beside it', async () => {
  const { commands, log } = await openStore(':memory:');
  const command = queuedCommand();
  const [added, advanced, appended] = await Promise.allSettled([
    commands.add(command, addOptions()),
    commands.advance(command.id, 'started', Number.NaN),
    log.append('t/a', newEvent(1, { durable: true })),
  ]);
  expect([added.status, advanced.status, appended.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect((await commands.get(command.id))?.last.state).toBe('queued');
  expect((await readAll(log, 't/a')).numbers).toEqual([1]);
});

test('a durable event that is no JSON, or at no time, is refused and leaves no hole', async () => {
  const { log } = await openStore(':memory:');
  await expect(log.append('t/a', newEvent(1, { durable: true, data: 1n }))).rejects.toMatchObject({
    code: 'invalid-argument',
  });
  await expect(log.append('t/a', newEvent(1, { durable: true, atMs: Number.NaN }))).rejects.toMatchObject({
    code: 'invalid-argument',
  });
  await log.append('t/a', newEvent(2, { durable: true }));
  const { found } = await readAll(log, 't/a');
  expect(found).toHaveLength(1);
  expect(found[0]).toMatchObject({ seq: 1 });
});

test('a volatile event does not overtake a durable one of its producer while that one is looked up', async () => {
  const { log } = await openStore(':memory:');
  const send = (n: number, durable: boolean) =>
    log.append('t/a', newEvent(n, { durable, producer: { id: 'boot-1', seq: n } }));
  await Promise.all([send(1, true), send(2, false), send(3, true), send(4, false)]);
  expect((await readAll(log, 't/a')).numbers).toEqual([1, 2, 3, 4]);
});
