import { randomBytes } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { HubError } from '../errors.ts';
import { checkSecret } from './check-secret.ts';

export const secretFile = 'jwt.secret';
const secretLength = 32;

/**
 * The hub's own JWT secret, kept in `<directory>/jwt.secret` with mode 0600; made there if there is none. Processes
 * that begin at the same time get the same. Throws `invalid-argument` when others may read the file, when it
 * holds less than 32 bytes or what anybody can guess, or when it cannot be made or read.
 */
export async function ensureSecret(directory: string): Promise<string> {
  const file = path.join(directory, secretFile);
  for (;;) {
    const found = await readSecret(file);
    if (found !== undefined) return found;
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await createSecret(file);
    } catch (error) {
      throw cannot('made', file, error);
    }
  }
}

async function readSecret(file: string): Promise<string | undefined> {
  let mode: number;
  let text: string;
  try {
    ({ mode } = await stat(file));
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cannot('read', file, error);
  }
  // Windows has no such bits.
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    const bits = (mode & 0o777).toString(8).padStart(4, '0');
    const advice = `run "chmod 600 ${file}", or delete it to get a new one`;
    throw new HubError('invalid-argument', `the secret ${file} may be read by others (mode ${bits}): ${advice}`);
  }
  const secret = text.trim();
  checkSecret(secret, file);
  return secret;
}

/** Writes it in full under another name, and links that: whoever comes second finds a whole file. */
async function createSecret(file: string): Promise<void> {
  const draft = `${file}.${randomBytes(8).toString('hex')}`;
  try {
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(`${randomBytes(secretLength).toString('base64url')}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await chmod(draft, 0o600); // whatever the umask made of it
    await link(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

function cannot(what: 'read' | 'made', file: string, error: unknown): HubError {
  return new HubError('invalid-argument', `the secret ${file} cannot be ${what}: ${(error as Error).message}`, {
    cause: error,
  });
}
