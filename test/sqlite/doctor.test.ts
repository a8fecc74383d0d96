import { chmodSync, closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ensureSecret } from '../../src/auth/ensure-secret.ts';
import { doctor, openSqlite } from '../../src/sqlite/index.ts';
import { migrations } from '../../src/sqlite/schema.ts';
import { addOptions, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { newEvent } from '../contracts/event-log.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

const filesOf = (directory: string) =>
  Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'latin1')]));

async function fill(store: Awaited<ReturnType<typeof openSqlite>>): Promise<void> {
  const ended = queuedCommand();
  await store.commands.add(queuedCommand(), addOptions({ nowMs: 77 }));
  await store.commands.add(ended, addOptions());
  await store.commands.finish(succeeded(ended));
  await store.log.append('t/a', newEvent(1, { durable: true }));
}

test('a directory at rest is reported as it is, and not touched', async () => {
  const directory = join(emptyDirectory(), 'data');
  const store = await openSqlite({ directory });
  await fill(store);
  await store.close();
  const before = filesOf(directory);
  const report = await doctor(directory);
  expect(report.findings.filter(({ severity, subject }) => severity !== 'ok' && subject !== 'disk')).toEqual([]);
  expect(report).toMatchObject({ isHealthy: true, directory });
  expect(report.contents).toMatchObject({
    pendingCommands: 1,
    endedCommands: 1,
    oldestPendingAtMs: 77,
    events: 1,
    channels: 1,
    schemaVersion: migrations.length,
    walBytes: 0,
  });
  expect(filesOf(directory)).toEqual(before);
});

test('a directory with a hub on it can be looked at, and the hub does not notice', async () => {
  const directory = join(emptyDirectory(), 'data');
  const store = await openStore(directory);
  await fill(store);
  const names = readdirSync(directory);
  const report = await doctor(directory);
  expect(report).toMatchObject({ isHealthy: true, contents: { pendingCommands: 1, events: 1 } });
  expect(report.findings).toContainEqual({ severity: 'ok', subject: 'in-use', message: 'a hub runs on it' });
  expect(readdirSync(directory)).toEqual(names);
  await fill(store);
  await expect(openSqlite({ directory })).rejects.toMatchObject({ code: 'unavailable' });
});

test('what is missing, or not ours, is said', async () => {
  const directory = emptyDirectory();
  expect(await doctor(join(directory, 'nowhere'))).toMatchObject({ isHealthy: false });
  expect(await doctor(directory)).toMatchObject({ isHealthy: true, contents: undefined });
  writeFileSync(join(directory, 'signalbox.db'), 'Dear diary, '.repeat(1000));
  const report = await doctor(directory);
  expect(report.isHealthy).toBe(false);
  expect(report.findings.at(-1)?.message).toContain('is not a database');
  expect(await doctor(join(directory, 'signalbox.db'))).toMatchObject({ isHealthy: false });
});

test('open permissions are a warning, with the command that closes them', async () => {
  const directory = emptyDirectory();
  await (await openSqlite({ directory })).close();
  chmodSync(directory, 0o755);
  const { findings } = await doctor(directory);
  expect(findings).toContainEqual(
    expect.objectContaining({
      severity: 'warning',
      subject: 'permissions',
      advice: expect.stringContaining('chmod 700'),
    }),
  );
});

test('a secret that others can read is an error, as it is for a hub that starts', async () => {
  const directory = emptyDirectory();
  await (await openSqlite({ directory })).close();
  await ensureSecret(directory);
  const secret = join(directory, 'jwt.secret');
  expect((await doctor(directory)).isHealthy).toBe(true);
  chmodSync(secret, 0o644);
  await expect(ensureSecret(directory)).rejects.toThrow('may be read by others');
  const { isHealthy, findings } = await doctor(directory);
  expect(isHealthy).toBe(false);
  expect(findings).toContainEqual(
    expect.objectContaining({ severity: 'error', advice: expect.stringContaining(`chmod 600 ${secret}`) }),
  );
});

test('damage is found', async () => {
  const directory = emptyDirectory();
  const store = await openSqlite({ directory });
  for (let i = 0; i < 50; i++) await store.log.append('t/a', newEvent(i, { durable: true, data: 'x'.repeat(3000) }));
  await store.close();
  const file = openSync(join(directory, 'signalbox.db'), 'r+');
  for (let page = 6; page < 40; page++) writeSync(file, Buffer.alloc(600, 0xab), 0, 600, page * 4096);
  closeSync(file);
  const report = await doctor(directory);
  expect(report.isHealthy).toBe(false);
  expect(JSON.stringify(report.findings)).toMatch(/damaged/);
});
