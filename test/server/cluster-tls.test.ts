import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { type ServeOptions, serve } from '../../src/server/index.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { RedisServer } from '../support/redis.ts';

let folder: string;
let redis: RedisServer;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'signalbox-cluster-tls-'));
  const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=hub.test'.split(' ');
  const names = ['-addext', 'subjectAltName=IP:127.0.0.1'];
  for (const name of ['one', 'two'])
    execFileSync(
      'openssl',
      ['req', '-x509', ...ask, ...names, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)],
      {
        stdio: 'ignore',
      },
    );
  writeFileSync(at('secret'), 'the secret of this cluster, 32 bytes or more\n');
  redis = await RedisServer.start();
});
afterAll(async () => {
  await redis?.close();
  rmSync(folder, { recursive: true });
});

const at = (name: string): string => path.join(folder, name);

async function open(node: string, options: ServeOptions = {}) {
  const server = await serve(
    {
      redis: redis.url,
      node,
      grpc: '127.0.0.1:0',
      http: false,
      preset: 'test',
      tlsCert: at('one.pem'),
      tlsKey: at('one.key'),
      clusterCa: at('one.pem'),
      clusterSecretFile: at('secret'),
      drainReconnectAfterMs: 0,
      drainSpreadMs: 0,
      ...options,
    },
    { sources: { env: {}, cwd: folder } },
  );
  onTestFinished(() => server.close());
  return server;
}

async function device(address: string, clientId: string) {
  const one = await connectDevice({ address, clientId, tls: { ca: readFileSync(at('one.pem')) } });
  onTestFinished(() => one.close({ timeoutMs: 0 }));
  const bytes = { type: 'test.Do', encode: (value: Uint8Array) => value, decode: (value: Uint8Array) => value };
  one.handle(bytes, (value) => value);
}

test('nodes link over TLS, known by the authority that was named, with a secret of their own', async () => {
  const [a, b] = [await open('a'), await open('b')];
  await device(a.grpc[0]!, 'pump-1');
  const updates = await collect(b.road.send(testCommand({ clientId: 'pump-1' })));
  expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
});

test('a node whose certificate nobody vouches for, or with another secret, is not spoken with', async () => {
  const a = await open('a', { redisPrefix: 'other' });
  await device(a.grpc[0]!, 'pump-2');
  for (const wrong of [{ clusterCa: at('two.pem') }, { clusterSecretFile: at('two.key') }]) {
    const b = await open('b', { redisPrefix: 'other', ...wrong });
    const refused = collect(b.road.send(testCommand({ clientId: 'pump-2', timeoutMs: 1000 })));
    await expect(refused).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('node a') });
    await b.close();
  }
});

test('a secret that is too short, or a file that is not there, is refused by name', async () => {
  writeFileSync(at('short'), 'short');
  await expect(open('c', { clusterSecretFile: at('short') })).rejects.toThrow(/5 bytes/);
  await expect(open('c', { clusterSecretFile: at('none') })).rejects.toThrow(/none cannot be read/);
  await expect(open('c', { clusterCa: at('none.pem') })).rejects.toThrow(/none\.pem cannot be read/);
});
