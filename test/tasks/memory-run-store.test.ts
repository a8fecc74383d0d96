import { memoryRunStore } from '../../src/tasks/memory-run-store.ts';
import { runStoreContract } from '../contracts/run-store.ts';

runStoreContract('memory', async () => {
  const store = memoryRunStore();
  return { store, close: () => store.close() };
});
