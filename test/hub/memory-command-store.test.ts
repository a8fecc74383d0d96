import { memoryCommandStore } from '../../src/hub/memory-command-store.ts';
import { commandStoreContract } from '../contracts/command-store.ts';

commandStoreContract('memory', async () => {
  const store = memoryCommandStore();
  return { store, close: () => store.close() };
});
