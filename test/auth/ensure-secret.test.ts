import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ensureSecret } from '../../src/auth/index.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'secret-'));
});
afterEach(() => rm(directory, { recursive: true }));

test('a secret is made once, for its owner alone, and found again', async () => {
  const data = path.join(directory, 'a', 'b');
  const secret = await ensureSecret(data);
  expect(Buffer.byteLength(secret)).toBeGreaterThanOrEqual(32);
  expect((await stat(path.join(data, 'jwt.secret'))).mode & 0o777).toBe(0o600);
  expect(await ensureSecret(data)).toBe(secret);
  expect((await readFile(path.join(data, 'jwt.secret'), 'utf8')).trim()).toBe(secret);
});

test('many that begin at the same time get the same, and leave no drafts', async () => {
  const secrets = await Promise.all(Array.from({ length: 20 }, () => ensureSecret(directory)));
  expect(new Set(secrets).size).toBe(1);
  expect(await readdir(directory)).toEqual(['jwt.secret']);
});

test('two processes get the same', async () => {
  const module = new URL('../../src/auth/ensure-secret.ts', import.meta.url);
  const script = `import { ensureSecret } from ${JSON.stringify(module.href)}; console.log(await ensureSecret(process.argv[1]));`;
  const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, directory]);
  const [a, b] = await Promise.all([run(), run()]);
  expect(a.stdout.trim()).toHaveLength(43);
  expect(a.stdout).toBe(b.stdout);
});

test('one that others may read is refused, saying how to mend it', async () => {
  await ensureSecret(directory);
  const file = path.join(directory, 'jwt.secret');
  await chmod(file, 0o644);
  await expect(ensureSecret(directory)).rejects.toMatchObject({
    code: 'invalid-argument',
    message: `the secret ${file} may be read by others (mode 0644): run "chmod 600 ${file}", or delete it to get a new one`,
  });
});

test('a short one is refused, and never overwritten', async () => {
  const file = path.join(directory, 'jwt.secret');
  await writeFile(file, 'changeme\n', { mode: 0o600 });
  await expect(ensureSecret(directory)).rejects.toThrow(`the secret ${file} holds 8 bytes, not at least 32`);
  expect(await readFile(file, 'utf8')).toBe('changeme\n');
});

test('a directory that cannot be one is said', async () => {
  const file = path.join(directory, 'file');
  await writeFile(file, '');
  await expect(ensureSecret(path.join(file, 'data'))).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(/^the secret .* cannot be read: ENOTDIR/),
  });
});
