import { memoryLeaseStore } from '../../src/leases/memory-lease-store.ts';
import { virtualClock } from '../../src/testing/index.ts';
import { leaseStoreContract } from '../contracts/lease-store.ts';

leaseStoreContract('memory', async () => {
  const clock = virtualClock();
  const store = memoryLeaseStore({ clock });
  return { store, pass: clock.advance, isTimeless: true, close: () => store.close() };
});
