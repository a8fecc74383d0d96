import { randomUUID } from 'node:crypto';
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { HubError } from '../../errors.ts';

/** Locks held by this very process, so that its own number in a lock file of an earlier life is told apart. */
const held = new Set<string>();

/**
 * Takes a lock file that tells its holder's process. A lock whose process is gone is taken over. Returns the release.
 * Throws `unavailable` when somebody else has it.
 */
export function lockFile(path: string): () => void {
  const mine = JSON.stringify({ pid: process.pid, started: startOf(process.pid) });
  for (let attempt = 0; attempt < 5; attempt++) {
    if (held.has(path)) throw taken(path, `this process (${process.pid})`);
    if (create(path, mine)) {
      held.add(path);
      return () => {
        if (held.delete(path)) rmSync(path, { force: true });
      };
    }
    const seen = read(path);
    if (seen === undefined) continue;
    const holder = parse(seen);
    if (holder && isAlive(holder)) throw taken(path, `process ${holder.pid}`);
    // Of several who find it stale, one wins the rename; that what was moved is what was seen is checked after it.
    const moved = `${path}.${randomUUID()}`;
    try {
      renameSync(path, moved);
    } catch {
      continue; // Somebody else was faster: look again.
    }
    const stolen = read(moved) !== seen;
    if (stolen) renameSync(moved, path);
    else rmSync(moved, { force: true });
    if (stolen) throw taken(path, 'another process');
  }
  throw taken(path, 'another process');
}

interface Holder {
  readonly pid: number;
  readonly started: string;
}

function create(path: string, content: string): boolean {
  try {
    const file = openSync(path, 'wx', 0o600);
    writeSync(file, content);
    closeSync(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // It is gone: whoever held it has let go.
  }
}

function parse(content: string): Holder | undefined {
  try {
    const { pid, started } = JSON.parse(content) as Partial<Holder>;
    return Number.isInteger(pid) && typeof started === 'string' ? { pid: pid as number, started } : undefined;
  } catch {
    return undefined; // Cut off by a crash: nobody's.
  }
}

function isAlive({ pid, started }: Holder): boolean {
  if (pid === process.pid) return false; // Not in `held`: an earlier process with our number, as in containers.
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return started === '' || startOf(pid) === started;
}

/** When a process began, where the system tells; numbers of processes are used again. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return ''; // Not Linux: the number alone has to do.
  }
}

function taken(path: string, by: string): HubError {
  return new HubError('unavailable', `the journal is in use by ${by}; if that is not so, remove ${path}`);
}
