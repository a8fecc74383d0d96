import { accessSync, constants, mkdtempSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const roomy = 2 ** 31;

/**
 * A new folder for a store that syncs often and whose test kills programs, never the machine: in memory where there is
 * room for that, so that a busy disk holds up no test. Whoever makes it removes it.
 */
export function scratchFolder(prefix: string): string {
  return mkdtempSync(path.join(place(), prefix));
}

function place(): string {
  const memory = '/dev/shm';
  try {
    accessSync(memory, constants.W_OK);
    const { bavail, bsize } = statfsSync(memory);
    if (bavail * bsize >= roomy) return memory;
  } catch {
    // Other systems have none.
  }
  return tmpdir();
}
