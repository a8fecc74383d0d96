import type { Hold } from '../../src/hub/command-store.ts';
import { memoryCommandStore } from '../../src/hub/memory-command-store.ts';
import { commandStoreContract } from '../contracts/command-store.ts';

commandStoreContract('memory', async () => {
  const holders = new Map<string, Hold>();
  const keyOf = ({ tenant, clientId }: { tenant: string; clientId: string }) => `${tenant}/${clientId}`;
  const store = memoryCommandStore({ holderOf: (owner) => holders.get(keyOf(owner)) });
  return {
    store,
    async claim(owner, hold) {
      if (hold) holders.set(keyOf(owner), hold);
      else holders.delete(keyOf(owner));
    },
    close: () => store.close(),
  };
});
