import Sqlite from 'better-sqlite3';
import { expect, test } from 'vitest';
import { openDatabase } from '../../src/sqlite/database.ts';
import { storeOperations } from '../../src/sqlite/store-operations.ts';
import type { Call } from '../../src/sqlite/thread-messages.ts';
import { Transactions } from '../../src/sqlite/transactions.ts';

const call = (id: number, seq = id): Call => {
  return [id, 'append', [['t/a', 1, seq, 'x', 1, '1', undefined, 0], 1]];
};
const count: Call = [99, 'readEvents', ['t/a', { epoch: 0, seq: 0 }, { epoch: 9, seq: 0 }, 100]];

/** A store whose disk fails with `disk.code` where one is set. */
function storeOnFailingDisk() {
  const opened = openDatabase({ directory: ':memory:', busyTimeoutMs: 0, maxBytes: Number.POSITIVE_INFINITY });
  const retention = { maxEvents: 100, maxBytes: 1e9, maxAgeMs: 1e12, maxTotalEvents: 1000 };
  const disk: { code: string | undefined } = { code: undefined };
  const operations = storeOperations(opened.db, retention);
  const save = () => {
    if (disk.code) throw new Sqlite.SqliteError('the disk failed', disk.code);
    operations.save();
  };
  const transactions = new Transactions(opened, { ...operations, save }, 'in a test');
  const stored = () => transactions.run([count])[0]![1] as unknown[];
  return { transactions, disk, stored };
}

test.each(['SQLITE_IOERR_FSYNC', 'SQLITE_IOERR_WRITE', 'SQLITE_CORRUPT', 'SQLITE_READONLY'])(
  'after %s nothing is accepted any more, also when the disk seems well again',
  (code) => {
    const { transactions, disk, stored } = storeOnFailingDisk();
    expect(transactions.run([call(1)])).toEqual([[1, undefined]]);
    disk.code = code;
    for (const [, , error] of transactions.run([call(2), call(3)]))
      expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining(code) });
    disk.code = undefined;
    expect(transactions.run([call(4)])[0]![2]).toMatchObject({ code: 'unavailable' });
    expect(transactions.health).toMatchObject({ state: 'broken', reason: expect.stringContaining('until a restart') });
    expect(stored()).toHaveLength(1);
  },
);

test('what was sent before its sender heard of a failure is refused, so that nothing overtakes what failed', () => {
  const { transactions, stored } = storeOnFailingDisk();
  expect(transactions.run([call(1)], true)[0]![2]).toMatchObject({ code: 'unavailable' });
  expect(stored()).toHaveLength(0);
  expect(transactions.run([count], true)[0]![2]).toBeUndefined();
  expect(transactions.run([call(1)])[0]![2]).toBeUndefined();
});

test('a full disk is tried again', async () => {
  const { transactions, disk, stored } = storeOnFailingDisk();
  disk.code = 'SQLITE_FULL';
  expect(transactions.run([call(1)])[0]![2]).toMatchObject({ code: 'unavailable' });
  expect(transactions.health.state).toBe('full');
  expect(transactions.failures).toBe(1);
  disk.code = undefined;
  await expect.poll(() => transactions.run([call(2)])[0]![2]).toBeUndefined();
  expect(transactions.health.state).toBe('well');
  expect(stored()).toHaveLength(1);
});

test('a call that breaks a rule of the database fails alone', () => {
  const { transactions, stored } = storeOnFailingDisk();
  const answers = transactions.run([call(1), call(2, 1), call(3)]);
  expect(answers.map(([id, , error]) => [id, error?.code])).toEqual([
    [1, undefined],
    [2, 'internal'],
    [3, undefined],
  ]);
  expect(stored()).toHaveLength(2);
});
