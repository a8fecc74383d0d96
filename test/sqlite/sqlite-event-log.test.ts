import { openSqlite } from '../../src/sqlite/index.ts';
import { eventLogContract } from '../contracts/event-log.ts';

eventLogContract('SQLite', async (memory) => {
  const { log, close } = await openSqlite({ directory: ':memory:', memory });
  return { log, close };
});
