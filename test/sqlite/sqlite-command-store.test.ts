import { openSqlite } from '../../src/sqlite/index.ts';
import { commandStoreContract } from '../contracts/command-store.ts';

commandStoreContract('SQLite', async () => {
  const { commands, close } = await openSqlite({ directory: ':memory:' });
  return { store: commands, close };
});
