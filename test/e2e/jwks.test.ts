import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { expect, onTestFinished, test } from 'vitest';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';

test('a hub with --auth-jwks takes the tokens of an identity provider over https, and no others', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-jwks-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
  const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=issuer.test'.split(' ');
  const name = ['-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...ask, ...name, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const [ours, foreign] = [await generateKeyPair('ES256'), await generateKeyPair('ES256')];
  const keys = { keys: [{ ...(await exportJWK(ours.publicKey)), kid: 'one', alg: 'ES256', use: 'sig' }] };
  const provider = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(keys));
  });
  await once(provider.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void provider.close());
  const jwks = `https://127.0.0.1:${(provider.address() as AddressInfo).port}/keys`;
  const args = ['serve', '--json', '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0', '--data', ':memory:'];
  const hub = new Program(process.execPath, [path.join(root, 'src/cli/main.ts'), ...args, '--auth-jwks', jwks], {
    env: { NODE_EXTRA_CA_CERTS: cert },
  });
  await hub.says(/"event":"ready"/);
  const { http } = JSON.parse(hub.stdout.split('\n').find((line) => line.includes('"ready"'))!) as { http: string };
  const token = (by: typeof ours): Promise<string> =>
    new SignJWT({ scope: 'clients:read' })
      .setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .setSubject('ann')
      .setIssuer('signalbox')
      .setAudience('signalbox')
      .setExpirationTime('5m')
      .sign(by.privateKey);
  const statusFor = async (bearer?: string): Promise<number> =>
    (await fetch(`${http}/v1/clients`, { headers: bearer ? { authorization: `Bearer ${bearer}` } : {} })).status;
  expect(await statusFor(await token(ours))).toBe(200);
  expect(await statusFor(await token(foreign))).toBe(401);
  expect(await statusFor()).toBe(401);
});
