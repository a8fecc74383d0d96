import { execFileSync } from 'node:child_process';

/**
 * From now on the thread of this process's event loop never waits for a processor, as on a machine that has one to
 * spare; or it does again. Its other threads go on as they are. Linux's own class for that, as a nice value moves shares
 * and not the wait for whoever runs, which is up to 4 ms. False where the machine has no `chrt`, or may not.
 */
export function loopFirst(isFirst: boolean): boolean {
  const policy = isFirst ? ['--fifo', '--pid', '1'] : ['--other', '--pid', '0'];
  try {
    execFileSync('chrt', [...policy, String(process.pid)], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
