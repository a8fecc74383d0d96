import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { ScriptedHub } from './scripted-hub.ts';

let directory: string;
let pair: { private_key: Buffer; cert_chain: Buffer };

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'signalbox-tls-'));
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=hub.test'.split(' ');
  const names = ['-addext', 'subjectAltName=DNS:hub.test'];
  execFileSync('openssl', ['req', '-x509', ...ask, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  pair = { private_key: readFileSync(key), cert_chain: readFileSync(cert) };
});
afterAll(() => rmSync(directory, { recursive: true }));

test('a hub is known by its certificate, and a device by its own', async () => {
  const credentials = ServerCredentials.createSsl(pair.cert_chain, [pair], true);
  await using hub = await ScriptedHub.start('127.0.0.1:0', credentials);
  const tls = { ca: pair.cert_chain, cert: pair.cert_chain.toString(), key: pair.private_key, serverName: 'hub.test' };
  const connecting = connectDevice({ address: hub.address, clientId: '', tls });
  await (await hub.stream()).welcome({ clientId: 'pump-7' });
  await using device = await connecting;
  expect(device.state).toMatchObject({ kind: 'connected', clientId: 'pump-7' });
});

test('a hub with another certificate is not talked to', async () => {
  await using hub = await ScriptedHub.start('127.0.0.1:0', ServerCredentials.createSsl(null, [pair]));
  const device = await connectDevice({
    address: hub.address,
    clientId: 'pump-7',
    token: 'secret',
    tls: true,
    waitForWelcome: false,
  });
  const reason = await new Promise((resolve) => {
    device.onStateChange((state) => state.kind === 'waiting' && resolve(state.reason));
  });
  expect(reason).toMatch(/certificate/);
  expect(hub.streams).toBe(0);
  await device.close();
});

test('a certificate that is none is told at once', async () => {
  const tls = { cert: 'nonsense', key: 'nonsense' };
  await expect(connectDevice({ address: 'hub.test:1', clientId: 'pump-7', tls })).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringContaining('tls'),
  });
});
