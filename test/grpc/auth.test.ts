import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import {
  type Authenticator,
  firstOf,
  jwtAuthenticator,
  type MintTokenOptions,
  mintToken,
  mtlsAuthenticator,
} from '../../src/auth/index.ts';
import { connectDevice } from '../../src/device/index.ts';
import { grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { hubClients } from '../../src/grpc/hub-clients.ts';
import type { GrpcTls } from '../../src/grpc/listener.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { collect, scriptedDevice, testCommand, type VirtualClock, virtualClock } from '../../src/testing/index.ts';

const secret = 'a secret of at least thirty-two bytes';
const issuer = 'test';
const audience = 'signalbox';

async function startHub(options: { authenticator?: Authenticator; tls?: GrpcTls; clock?: VirtualClock } = {}) {
  const { clock, tls } = options;
  const hub = new Hub(clock ? { clock } : {});
  const authenticator = options.authenticator ?? jwtAuthenticator({ secret, issuer, audience, clock });
  const server = await serveGrpc({ hub, authenticator, tls, clock, addresses: ['127.0.0.1:0'] });
  onTestFinished(async () => {
    await server.close({ timeoutMs: 0 });
    await hub.close();
  });
  return { hub, address: server.addresses[0]! };
}

const token = (part: Partial<MintTokenOptions>): Promise<string> =>
  mintToken({ secret, issuer, audience, subject: 'ann', scopes: ['commands:send'], ttlMs: 60_000, ...part });
const deviceToken = (clientId: string, part: Partial<MintTokenOptions> = {}): Promise<string> =>
  token({ subject: clientId, scopes: ['device'], ...part });

async function send(address: string, bearer: string | undefined) {
  const transport = grpcTransport({ address, token: bearer });
  onTestFinished(() => transport.close());
  return collect(transport.send(testCommand()));
}

describe('with tokens', () => {
  test('a device is the client that its token names, and a user commands it', async () => {
    const { address } = await startHub();
    await using device = await connectDevice({ address, clientId: 'pump-7', token: await deviceToken('pump-7') });
    device.handle({ type: 'test.Do', encode: () => new Uint8Array(), decode: () => 0 }, async () => undefined);
    expect((await send(address, await token({}))).at(-1)?.state).toBe('succeeded');
  });

  test('a device is no other client than its token names', async () => {
    const { hub, address } = await startHub();
    const refused = connectDevice({ address, clientId: 'pump-8', token: await deviceToken('pump-7') });
    await expect(refused).rejects.toMatchObject({ code: 'permission-denied', message: /pump-7/ });
    expect(hub.clients.list('default')).toEqual([]);
  });

  test('a user is no device', async () => {
    const { address } = await startHub();
    const refused = connectDevice({ address, clientId: 'ann', token: await token({}) });
    await expect(refused).rejects.toMatchObject({ code: 'permission-denied', message: /device/ });
  });

  test('a device commands nobody', async () => {
    const { address } = await startHub();
    await expect(send(address, await deviceToken('pump-7'))).rejects.toMatchObject({
      code: 'permission-denied',
      message: /commands:send/,
    });
  });

  test('clients and commands of another tenant are not there', async () => {
    const { hub, address } = await startHub();
    await scriptedDevice(hub).hello();
    await expect(send(address, await token({ tenant: 'other' }))).rejects.toMatchObject({ code: 'client-offline' });
  });

  test('no token, a forged one and an expired one are refused, each by its reason', async () => {
    const clock = virtualClock();
    const { address } = await startHub({ clock });
    await expect(send(address, undefined)).rejects.toMatchObject({ code: 'unauthenticated', message: /no token/ });
    const forged = await token({ secret: 'another secret of thirty-two bytes', clock });
    await expect(send(address, forged)).rejects.toMatchObject({ code: 'unauthenticated', message: /signature/ });
    const expired = await token({ clock, ttlMs: 1_000 });
    await clock.advance(5_000);
    await expect(send(address, expired)).rejects.toMatchObject({ code: 'unauthenticated', message: /expired/ });
  });

  test('the streams of callers and watchers end when their token does', async () => {
    const clock = virtualClock();
    const { hub, address } = await startHub({ clock });
    const device = scriptedDevice(hub);
    await device.hello();
    const short = await token({ clock, ttlMs: 10_000, scopes: ['commands:send', 'clients:read'] });
    const clients = hubClients({ address, token: short });
    onTestFinished(() => clients.close());
    const watching = clients.clients.watchClients({})[Symbol.asyncIterator]();
    await watching.next();
    const sent = send(address, short);
    await device.command();
    const ends = [watching.next(), sent].map((end) =>
      end.then(
        () => 'went on',
        (error: unknown) => error,
      ),
    );
    await clock.advance(9_000);
    expect(await Promise.race([...ends, Promise.resolve('open')])).toBe('open');
    await clock.advance(2_000);
    for (const end of ends)
      expect(await end).toMatchObject({ code: 'unauthenticated', message: /credential of this stream has expired/ });
    // What was sent is the hub's; only the telling has ended.
    expect((await hub.list({ tenant: 'default', limit: 1 }))[0]?.last.state).toBe('sent');
  });

  test('a token that is good for years does not end its streams before', async () => {
    const clock = virtualClock();
    const { address } = await startHub({ clock });
    const year = 365 * 24 * 3_600_000;
    const clients = hubClients({ address, token: await token({ clock, ttlMs: year, scopes: ['clients:read'] }) });
    onTestFinished(() => clients.close());
    const watching = clients.clients.watchClients({})[Symbol.asyncIterator]();
    await watching.next();
    const next = watching.next().catch((error: unknown) => error);
    await clock.advance(year - 1_000);
    expect(await Promise.race([next, Promise.resolve('open')])).toBe('open');
    await clock.advance(2_000);
    expect(await next).toMatchObject({ code: 'unauthenticated' });
  });
});

describe('with certificates', () => {
  let directory: string;
  const pem = (name: string): Buffer => readFileSync(join(directory, name));
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: 'ignore', cwd: directory });
  };
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const self = (name: string, subject: string): void =>
    openssl('req', '-x509', ...ec, '-days', '2', '-subj', subject, '-keyout', `${name}.key`, '-out', `${name}.pem`);
  const signed = (name: string, subject: string, altName?: string): void => {
    const ext = altName === undefined ? [] : ['-addext', `subjectAltName=${altName}`];
    openssl('req', ...ec, '-subj', subject, ...ext, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...by, '-out', `${name}.pem`);
  };

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'signalbox-certificates-'));
    self('ca', '/CN=test authority');
    signed('hub', '/CN=hub.test', 'DNS:hub.test');
    signed('pump', '/CN=pump-7/O=acme');
    self('forged', '/CN=pump-7/O=acme');
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const tls = (requireClientCert: boolean): GrpcTls => ({
    cert: pem('hub.pem'),
    key: pem('hub.key'),
    clientCa: pem('ca.pem'),
    requireClientCert,
  });
  const as = (name: string) => ({
    ca: pem('ca.pem'),
    cert: pem(`${name}.pem`),
    key: pem(`${name}.key`),
    serverName: 'hub.test',
  });

  test('a device is the client and the tenant that its certificate names', async () => {
    const authenticator = mtlsAuthenticator({ tenantFrom: ({ organization }) => organization ?? 'default' });
    const { hub, address } = await startHub({ authenticator, tls: tls(true) });
    await using device = await connectDevice({ address, clientId: '', tls: as('pump') });
    expect(device.state).toMatchObject({ kind: 'connected', clientId: 'pump-7' });
    expect(hub.clients.isConnected('acme', 'pump-7')).toBe(true);
    const other = connectDevice({ address, clientId: 'pump-8', tls: as('pump') });
    await expect(other).rejects.toMatchObject({ code: 'permission-denied', message: /pump-7/ });
  });

  test('a certificate of no authority of ours is nobody, also where none is required', async () => {
    const authenticator = firstOf(mtlsAuthenticator(), jwtAuthenticator({ secret, issuer, audience }));
    const { hub, address } = await startHub({ authenticator, tls: tls(false) });
    const forged = connectDevice({ address, clientId: 'pump-7', tls: as('forged') });
    await expect(forged).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(hub.clients.list('default')).toEqual([]);
  });

  test('callers come with a token over TLS beside devices with certificates', async () => {
    const authenticator = firstOf(mtlsAuthenticator(), jwtAuthenticator({ secret, issuer, audience }));
    const { hub, address } = await startHub({ authenticator, tls: tls(false) });
    await using _device = await connectDevice({ address, clientId: '', tls: as('pump') });
    const secure = { ca: pem('ca.pem'), serverName: 'hub.test' };
    const clients = hubClients({ address, token: await token({ scopes: ['clients:read'] }), tls: secure });
    onTestFinished(() => clients.close());
    expect((await clients.clients.listClients({})).clients.map(({ id }) => id)).toEqual(['pump-7']);
    expect(hub.clients.isConnected('default', 'pump-7')).toBe(true);
  });

  test('a caller that trusts another authority does not talk to the hub', async () => {
    const { address } = await startHub({ authenticator: mtlsAuthenticator(), tls: tls(false) });
    const transport = grpcTransport({ address, tls: { ca: pem('forged.pem'), serverName: 'hub.test' } });
    onTestFinished(() => transport.close());
    await expect(collect(transport.send(testCommand()))).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(address),
    });
  });
});
