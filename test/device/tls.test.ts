import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { ScriptedHub } from './scripted-hub.ts';

interface Pair {
  readonly private_key: Buffer;
  readonly cert_chain: Buffer;
}
let directory: string;
/** Of a hub that is known by its name and by the loopback address. */
let pair: Pair;
/** Of a hub that is known by its name alone. */
let named: Pair;

function certificate(file: string, names: string): Pair {
  const [key, cert] = [join(directory, `${file}.key`), join(directory, `${file}.pem`)];
  const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=hub.test'.split(' ');
  const more = ['-addext', `subjectAltName=${names}`, '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', ...ask, ...more], { stdio: 'ignore' });
  return { private_key: readFileSync(key), cert_chain: readFileSync(cert) };
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'signalbox-tls-'));
  pair = certificate('both', 'DNS:hub.test,IP:127.0.0.1');
  named = certificate('named', 'DNS:hub.test');
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

test('a hub known by its IP address is checked against it, and Node has nothing to warn of', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on('warning', note);
  onTestFinished(() => void process.off('warning', note));
  await using hub = await ScriptedHub.start('127.0.0.1:0', ServerCredentials.createSsl(null, [pair]));
  const connecting = connectDevice({ address: hub.address, clientId: 'pump-7', tls: { ca: pair.cert_chain } });
  await (await hub.stream()).welcome({ clientId: 'pump-7' });
  await using device = await connecting;
  expect(device.state).toMatchObject({ kind: 'connected' });
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings).toEqual([]);
});

test('a hub at an IP address that its certificate does not name is not talked to', async () => {
  await using hub = await ScriptedHub.start('127.0.0.1:0', ServerCredentials.createSsl(null, [named]));
  const tls = { ca: named.cert_chain };
  const device = await connectDevice({ address: hub.address, clientId: 'pump-7', tls, waitForWelcome: false });
  const reason = await new Promise((resolve) => {
    device.onStateChange((state) => state.kind === 'waiting' && resolve(state.reason));
  });
  expect(reason).toMatch(/IP: 127\.0\.0\.1 is not in the cert's list/);
  expect(hub.streams).toBe(0);
  await device.close();
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
