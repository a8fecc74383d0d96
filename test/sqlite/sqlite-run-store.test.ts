import { openSqlite } from '../../src/sqlite/index.ts';
import { runStoreContract } from '../contracts/run-store.ts';

runStoreContract('SQLite', async () => {
  const { runs: store, close } = await openSqlite({ directory: ':memory:' });
  return { store, close };
});
