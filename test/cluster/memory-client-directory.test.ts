import { memoryClientDirectory } from '../../src/cluster/memory-client-directory.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { clientDirectoryContract } from '../contracts/client-directory.ts';

clientDirectoryContract('memory', async () => {
  const clock = virtualClock();
  const directory = memoryClientDirectory({ clock });
  return { directory, other: directory, pass: (ms) => clock.advance(ms), close: () => directory.close() };
});
