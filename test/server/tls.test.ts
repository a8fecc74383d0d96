import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readTls } from '../../src/server/tls.ts';

let folder: string;
const at = (name: string): string => join(folder, name);
const day = 24 * 3_600_000;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'signalbox-server-tls-'));
  const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=hub.test'.split(' ');
  for (const name of ['one', 'two'])
    execFileSync('openssl', ['req', '-x509', ...ask, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)], {
      stdio: 'ignore',
    });
  writeFileSync(at('text.pem'), 'hello');
});
afterAll(() => rmSync(folder, { recursive: true }));

test('a certificate, its key and the authority of clients are read', () => {
  const tls = readTls({ tlsCert: at('one.pem'), tlsKey: at('one.key'), tlsCa: at('two.pem') }, Date.now());
  expect(tls?.cert).toContain('BEGIN CERTIFICATE');
  expect(tls?.clientCa).toContain('BEGIN CERTIFICATE');
  expect(readTls({}, Date.now())).toBeUndefined();
});

test.each([
  ['one.pem', 'two.key', 0, /two\.key is not the key of .*one\.pem/],
  ['one.pem', 'one.key', 3 * day, /one\.pem expired on \d{4}-/],
  ['one.pem', 'one.key', -day, /one\.pem is not valid before \d{4}-/],
  ['text.pem', 'one.key', 0, /text\.pem is not valid PEM/],
  ['one.pem', 'text.pem', 0, /text\.pem is not valid PEM/],
  ['none.pem', 'one.key', 0, /none\.pem cannot be read/],
])('%s with %s, %i ms from now, is refused by name', (cert, key, offsetMs, message) => {
  expect(() => readTls({ tlsCert: at(cert), tlsKey: at(key) }, Date.now() + offsetMs)).toThrow(message);
});

test('no message repeats the key', () => {
  try {
    readTls({ tlsCert: at('one.key'), tlsKey: at('one.key') }, Date.now());
    expect.unreachable();
  } catch (error) {
    expect(String(error)).not.toContain('PRIVATE');
  }
});
