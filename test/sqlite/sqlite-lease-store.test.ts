import Sqlite from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';
import { StreamLeases } from '../../src/leases/index.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { virtualClock } from '../../src/testing/index.ts';
import { leaseStoreContract } from '../contracts/lease-store.ts';
import { eventually } from '../support/eventually.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

leaseStoreContract('SQLite', async () => {
  const clock = virtualClock();
  const { leases, close } = await openSqlite({ directory: ':memory:', clock });
  return { store: leases, pass: clock.advance, isTimeless: true, close };
});

test('leases outlive a restart, and end by their time', async () => {
  const directory = emptyDirectory();
  const clock = virtualClock();
  const first = await openStore(directory, { clock });
  await first.leases.acquire('t/ann', 'a', { limit: 1, ttlMs: 1000 });
  await first.close();
  await clock.advance(400);
  const { leases } = await openStore(directory, { clock });
  expect(await leases.acquire('t/ann', 'b', { limit: 1, ttlMs: 1000 })).toEqual({
    kind: 'refused',
    held: 1,
    retryAfterMs: 600,
  });
  expect(await leases.refresh('t/ann', 'a', 1000)).toBe(true);
  await clock.advance(1000);
  expect(await leases.acquire('t/ann', 'b', { limit: 1, ttlMs: 1000 })).toEqual({ kind: 'granted' });
});

test('a clock that was set back by years keeps nobody out for longer than a lease lasts', async () => {
  const directory = emptyDirectory();
  const first = await openStore(directory, { clock: virtualClock(Date.UTC(2040, 0, 1)) });
  await first.leases.acquire('t/ann', 'a', { limit: 1, ttlMs: 1000 });
  await first.close();
  const { leases } = await openStore(directory, { clock: virtualClock(Date.UTC(2026, 0, 1)) });
  expect(await leases.list('t/ann')).toEqual([{ id: 'a', endsInMs: 1000 }]);
});

test('ended leases of users who never come back do not stay on the disk', async () => {
  const directory = emptyDirectory();
  const clock = virtualClock();
  const store = await openStore(directory, { clock, pruneEveryMs: 100 });
  await store.leases.acquire('t/ann', 'a', { limit: 1, ttlMs: 50 });
  await store.leases.acquire('t/bob', 'b', { limit: 1, ttlMs: 5000 });
  await clock.advance(100);
  const db = new Sqlite(`${directory}/signalbox.db`, { readonly: true });
  onTestFinished(() => void db.close());
  const kept = db.prepare('SELECT key FROM leases').pluck();
  await eventually(() => expect(kept.all()).toEqual(['t/bob']));
});

test('leases of streams can be kept in SQLite', async () => {
  const { leases: store } = await openStore(':memory:');
  await using leases = new StreamLeases({ store, limit: 1 });
  await leases.withStreamLease('ann', async () => {
    await expect(leases.acquire('ann')).rejects.toMatchObject({ code: 'stream-limit-exceeded' });
  });
  expect(await leases.canAcquire('ann')).toBe(true);
});
