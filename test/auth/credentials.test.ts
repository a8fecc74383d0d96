import { describe, expect, test } from 'vitest';
import {
  firstOf,
  jwtAuthenticator,
  mintToken,
  mtlsAuthenticator,
  openAuthenticator,
  type Scope,
  ticketBooth,
} from '../../src/auth/index.ts';

const own = { secret: 'x'.repeat(32), issuer: 'hub', audience: 'signalbox' };
const jwt = jwtAuthenticator(own);
const certificate = { commonName: 'pump-7', dnsNames: ['pump-7.example'], organization: 'acme' };

describe('mintToken', () => {
  test('makes tokens that the hub with the same secret accepts', async () => {
    const bearer = await mintToken({
      ...own,
      subject: 'serial-1',
      scopes: ['device', 'events:read'],
      tenant: 'acme',
      clientId: 'pump-7',
      channels: ['client.pump-7'],
      ttlMs: 60_000,
    });
    expect(await jwt.authenticate({ bearer })).toMatchObject({
      subject: 'serial-1',
      tenant: 'acme',
      scopes: new Set(['device', 'events:read']),
      clientId: 'pump-7',
      channels: ['client.pump-7'],
    });
  });

  test.each([
    [{ secret: 'short' }, 'the JWT secret has 5 bytes'],
    [{ scopes: ['root' as Scope] }, 'there is no scope "root", only device, commands:send'],
    [{ ttlMs: 0 }, "the token's ttlMs is 0"],
    [{ ttlMs: Number.POSITIVE_INFINITY }, "the token's ttlMs is Infinity"],
    [{ subject: '' }, "the token's sub claim cannot be read"],
    [{ clientId: '../x', scopes: ['device' as const] }, 'client id "../x" is not valid'],
    [{ tenant: 'a b' }, 'tenant "a b" is not valid'],
    [{ channels: ['a*b'] }, "the token's channels claim cannot be read"],
  ])('refuses %j, which could never be used', async (wrong, message) => {
    const minting = mintToken({ ...own, subject: 'ann', scopes: ['admin'], ttlMs: 1000, ...wrong });
    await expect(minting).rejects.toThrow(message);
    await expect(minting).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

describe('client certificates', () => {
  test('name the device by common name, or by DNS name', async () => {
    expect(await mtlsAuthenticator().authenticate({ certificate: { ...certificate, expiresAtMs: 5 } })).toEqual({
      subject: 'pump-7',
      tenant: 'default',
      scopes: new Set(['device']),
      clientId: 'pump-7',
      expiresAtMs: 5,
    });
    const byDns = await mtlsAuthenticator().authenticate({ certificate: { ...certificate, commonName: '' } });
    expect(byDns.clientId).toBe('pump-7.example');
  });

  test('may name the tenant', async () => {
    const authenticator = mtlsAuthenticator({ tenantFrom: ({ organization }) => organization ?? 'none' });
    expect((await authenticator.authenticate({ certificate })).tenant).toBe('acme');
  });

  test.each([
    [undefined, 'no client certificate'],
    [{ commonName: '', dnsNames: [] }, 'the client certificate has neither a common name nor a DNS name'],
    [{ commonName: '../x', dnsNames: [] }, 'the client certificate: client id "../x" is not valid'],
  ])('%j is unauthenticated', async (wrong, message) => {
    const asking = mtlsAuthenticator().authenticate({ certificate: wrong });
    await expect(asking).rejects.toThrow(message);
    await expect(asking).rejects.toMatchObject({ code: 'unauthenticated' });
  });
});

describe('firstOf', () => {
  const booth = ticketBooth();
  const all = firstOf(booth, jwt, mtlsAuthenticator());

  test('takes what was brought', async () => {
    const bearer = await mintToken({ ...own, subject: 'ann', scopes: ['admin'], ttlMs: 60_000 });
    expect(await all.authenticate({ bearer, certificate })).toMatchObject({ subject: 'ann' });
    expect(await all.authenticate({ certificate })).toMatchObject({ subject: 'pump-7' });
    const ticket = booth.issue(await jwt.authenticate({ bearer }));
    expect(await all.authenticate({ ticket })).toMatchObject({ subject: 'ann' });
  });

  test('what is brought and refused is not made good by another credential', async () => {
    await expect(all.authenticate({ bearer: 'bad', certificate })).rejects.toMatchObject({ code: 'unauthenticated' });
    await expect(all.authenticate({ ticket: 'used', certificate })).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  test('with nothing brought it says what would do', async () => {
    await expect(all.authenticate({})).rejects.toThrow(
      'no credential: bring a ticket or a bearer token or a client certificate',
    );
    expect(await firstOf(jwt, openAuthenticator()).authenticate({})).toMatchObject({ subject: 'anonymous' });
  });
});
