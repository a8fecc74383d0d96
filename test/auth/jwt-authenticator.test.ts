import { createHmac, generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, type JWK, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jwtAuthenticator, mintToken, type Principal } from '../../src/auth/index.ts';
import { HubError } from '../../src/errors.ts';
import type { Clock } from '../../src/flow/clock.ts';

const secret = 'a secret of thirty-two bytes....';
const issuer = 'https://id.example';
const audience = 'signalbox';
const nowS = 1_800_000_000;

class TestClock implements Clock {
  seconds = nowS;
  now = (): number => this.seconds * 1000;
  monotonic = (): number => this.seconds * 1000;
  after = (): (() => void) => () => undefined;
}

const good = { iss: issuer, aud: audience, sub: 'ann', exp: nowS + 60, scope: 'commands:send events:read' };

type Part = Record<string, unknown>;
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token with any header and claims, signed by hand: libraries refuse to make bad ones. */
function handmade(claims: Part, header: Part = {}, key: string | Buffer = secret): string {
  const text = `${part({ alg: 'HS256', typ: 'JWT', ...header })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
}

const clock = new TestClock();
const own = jwtAuthenticator({ secret, issuer, audience, clock });

async function answer(promise: Promise<Principal>): Promise<string> {
  return promise.then(
    ({ subject }) => `accepted ${subject}`,
    (error: HubError) => {
      expect(error).toBeInstanceOf(HubError);
      return `${error.code}: ${error.message}`;
    },
  );
}

const without = (claim: keyof typeof good): Part => {
  const { [claim]: _, ...rest } = good;
  return rest;
};

describe('the catalogue of bad tokens', () => {
  test.each<[string, string | undefined, string]>([
    ['nothing', undefined, 'no token: send "authorization: Bearer <token>"'],
    ['an empty one', '', 'no token: send "authorization: Bearer <token>"'],
    ['alg none', `${part({ alg: 'none', typ: 'JWT' })}.${part(good)}.`, "the token's algorithm is not allowed here"],
    ['alg none with a signature', handmade(good, { alg: 'none' }), "the token's algorithm is not allowed here"],
    ['another HMAC than the one set', handmade(good, { alg: 'HS512' }), "the token's algorithm is not allowed here"],
    ['RS256 where a secret is used', handmade(good, { alg: 'RS256' }), "the token's algorithm is not allowed here"],
    ['another secret', handmade(good, {}, 'x'.repeat(32)), "the token's signature is not valid"],
    ['no signature', handmade(good).replace(/[^.]*$/, ''), "the token's signature is not valid"],
    ['claims changed after signing', forged(), "the token's signature is not valid"],
    ['no exp', handmade(without('exp')), 'the token has no exp claim'],
    ['no sub', handmade(without('sub')), 'the token has no sub claim'],
    ['no iss', handmade(without('iss')), 'the token has no iss claim'],
    ['no aud', handmade(without('aud')), 'the token has no aud claim'],
    [
      'an exp that is no number',
      handmade({ ...good, exp: 'tomorrow' }),
      "the token's exp is not the one expected here",
    ],
    ['an exp in the past', handmade({ ...good, exp: nowS - 1 }), 'the token has expired'],
    ['an exp of this very second', handmade({ ...good, exp: nowS }), 'the token has expired'],
    ['an nbf in the future', handmade({ ...good, nbf: nowS + 9 }), 'the token is not valid yet'],
    [
      'unknown crit',
      handmade(good, { crit: ['b65'], b65: 1 }),
      'the token asks for an extension that is not supported',
    ],
    ['an unencoded payload', handmade(good, { crit: ['b64'], b64: false }), 'the token is not a signed JWT'],
    ['wrong iss', handmade({ ...good, iss: 'https://evil.example' }), "the token's iss is not the one expected here"],
    ['wrong aud', handmade({ ...good, aud: 'another-service' }), "the token's aud is not the one expected here"],
    ['wrong aud among many', handmade({ ...good, aud: ['a', 'b'] }), "the token's aud is not the one expected here"],
    ['wrong typ', handmade(good, { typ: 'logout+jwt' }), 'the token\'s typ is "logout+jwt", not JWT'],
    [
      'an empty sub',
      handmade({ ...good, sub: '' }),
      "the token's sub claim cannot be read: it has to be 1 to 256 characters",
    ],
    [
      'a sub with a line break',
      handmade({ ...good, sub: 'a\nb' }),
      "the token's sub claim cannot be read: it has to be 1 to 256 characters",
    ],
    [
      'a sub that is no text',
      handmade({ ...good, sub: 7 }),
      "the token's sub claim cannot be read: it has to be 1 to 256 characters",
    ],
    [
      'a scope that is no text',
      handmade({ ...good, scope: ['admin'] }),
      "the token's scope claim cannot be read: it has to be words separated by spaces",
    ],
    [
      'a tenant that is no text',
      handmade({ ...good, tenant: 7 }),
      "the token's tenant claim cannot be read: it has to be a text",
    ],
    [
      'a pattern with a star in the middle',
      handmade({ ...good, channels: ['a*b'] }),
      "the token's channels claim cannot be read: it has to be at most 64 names, with * only at the end",
    ],
    [
      'channels that are a number',
      handmade({ ...good, channels: 7 }),
      "the token's channels claim cannot be read: it has to be at most 64 names, with * only at the end",
    ],
    ['something that is no JWT', 'letmein', 'the token is not a signed JWT'],
    ['three parts of nothing', '..', 'the token is not a signed JWT'],
    ['1 MB', `${handmade(good)}${'A'.repeat(1024 * 1024)}`, 'the token has 1048'],
    ['8193 bytes', 'A'.repeat(8193), 'the token has 8193 bytes, the limit is 8192'],
  ])('%s is unauthenticated', async (_, token, message) => {
    const said = await answer(own.authenticate({ bearer: token }));
    expect(said.startsWith(`unauthenticated: ${message}`)).toBe(true);
    if (!message.startsWith('the token has 1048')) expect(said).toBe(`unauthenticated: ${message}`);
    expect(said.length).toBeLessThan(200);
  });

  test('a tenant that could be a path is refused by name', async () => {
    expect(await answer(own.authenticate({ bearer: handmade({ ...good, tenant: '../other' }) }))).toMatch(
      /^unauthenticated: the token's tenant claim: tenant "..\/other" is not valid/,
    );
  });

  test.each([
    ['kid with a path', { kid: '../../../../etc/passwd' }],
    ['kid with SQL', { kid: "' OR 1=1 --" }],
    ['jku', { jku: 'http://127.0.0.1:9/keys' }],
    ['x5u', { x5u: 'http://127.0.0.1:9/chain' }],
    ['an own jwk', { jwk: { kty: 'oct', k: 'AAAA' } }],
    ['no typ', { typ: undefined }],
    ['the typ of access tokens', { typ: 'at+jwt' }],
  ])('%s changes nothing: the key is the one that was configured', async (_, header) => {
    expect(await answer(own.authenticate({ bearer: handmade(good, header) }))).toBe('accepted ann');
    expect(await answer(own.authenticate({ bearer: handmade(good, header, 'y'.repeat(32)) }))).toBe(
      "unauthenticated: the token's signature is not valid",
    );
  });
});

function forged(): string {
  const [header, , signature] = handmade(good).split('.');
  return `${header}.${part({ ...good, scope: 'admin' })}.${signature}`;
}

describe('what a good token says', () => {
  test('subject, tenant, scopes, channels and end are read; scopes of other programs are left out', async () => {
    const bearer = handmade({
      ...good,
      scope: 'openid events:read  email',
      tenant: 'acme',
      channels: ['client.*', 'user.ann'],
    });
    expect(await own.authenticate({ bearer })).toEqual({
      subject: 'ann',
      tenant: 'acme',
      scopes: new Set(['events:read']),
      channels: ['client.*', 'user.ann'],
      expiresAtMs: (nowS + 60) * 1000,
    });
  });

  test('a device is the client that client_id names, or its subject', async () => {
    const named = handmade({ ...good, scope: 'device', sub: 'serial 4711', client_id: 'pump-7' });
    expect(await own.authenticate({ bearer: named })).toMatchObject({ clientId: 'pump-7', tenant: 'default' });
    const unnamed = handmade({ ...good, scope: 'device', sub: 'pump-8' });
    expect(await own.authenticate({ bearer: unnamed })).toMatchObject({ clientId: 'pump-8' });
    expect(await answer(own.authenticate({ bearer: handmade({ ...good, scope: 'device', sub: '../x' }) }))).toMatch(
      /^unauthenticated: the token's client_id claim: client id "..\/x" is not valid/,
    );
  });

  test("a user's client_id is the name of an application and means nothing here", async () => {
    const bearer = handmade({ ...good, client_id: 'https://app.example/callback?x' });
    expect((await own.authenticate({ bearer })).clientId).toBeUndefined();
  });

  test('an end beyond all calendars is clamped', async () => {
    const bearer = handmade({ ...good, exp: 1e300 });
    expect((await own.authenticate({ bearer })).expiresAtMs).toBe(Number.MAX_SAFE_INTEGER);
  });

  test('a token is good until its end and not after', async () => {
    const later = new TestClock();
    const authenticator = jwtAuthenticator({ secret, issuer, audience, clock: later });
    const bearer = await mintToken({
      secret,
      issuer,
      audience,
      subject: 'ann',
      scopes: ['admin'],
      ttlMs: 60_000,
      clock: later,
    });
    later.seconds += 59;
    expect(await answer(authenticator.authenticate({ bearer }))).toBe('accepted ann');
    later.seconds += 1;
    expect(await answer(authenticator.authenticate({ bearer }))).toBe('unauthenticated: the token has expired');
  });
});

test('a token that was good before is looked at again: its end counts, and another signature is another token', async () => {
  const later = new TestClock();
  const authenticator = jwtAuthenticator({ secret, issuer, audience, clock: later });
  const bearer = handmade(good);
  const first = await authenticator.authenticate({ bearer });
  expect(await authenticator.authenticate({ bearer })).toEqual(first);
  expect(await answer(authenticator.authenticate({ bearer: handmade(good, {}, 'x'.repeat(32)) }))).toBe(
    "unauthenticated: the token's signature is not valid",
  );
  later.seconds += 60;
  expect(await answer(authenticator.authenticate({ bearer }))).toBe('unauthenticated: the token has expired');
});

test('verified tokens are remembered in a bounded number', async () => {
  for (let i = 0; i < 1100; i++)
    expect(await answer(own.authenticate({ bearer: handmade({ ...good, sub: `user-${i}` }) }))).toBe(
      `accepted user-${i}`,
    );
  expect(await answer(own.authenticate({ bearer: handmade({ ...good, sub: 'user-0' }) }))).toBe('accepted user-0');
});

describe('options', () => {
  const base = { issuer, audience };
  test.each([
    [{ ...base, secret: 'short' }, 'the JWT secret has 5 bytes, it needs at least 32'],
    [{ ...base, secret: new Uint8Array(31) }, 'the JWT secret has 31 bytes, it needs at least 32'],
    [base, 'JWT needs either a secret or a JWKS URL'],
    [{ ...base, secret, jwksUrl: 'https://id.example/keys' }, 'JWT needs either a secret or a JWKS URL'],
    [{ ...base, secret, issuer: '' }, 'the JWT issuer is missing'],
    [{ ...base, secret, audience: '' }, 'the JWT audience is missing'],
    [{ ...base, jwksUrl: 'http://id.example/keys' }, 'the JWKS URL "http://id.example/keys" is not an https URL'],
    [{ ...base, jwksUrl: 'http://127.0.0.1.evil.example/' }, 'is not an https URL'],
    [{ ...base, jwksUrl: 'file:///etc/keys.json' }, 'is not an https URL'],
    [{ ...base, jwksUrl: 'keys' }, 'the JWKS URL "keys" is not an https URL'],
    [
      { ...base, secret, algorithms: ['RS256'] as const },
      'JWT algorithm RS256 does not go with a secret: HS256, HS384, HS512',
    ],
    [
      { ...base, jwksUrl: 'https://id.example/k', algorithms: ['HS256'] as const },
      'JWT algorithm HS256 does not go with a JWKS',
    ],
    [{ ...base, secret, algorithms: [] }, 'JWT algorithm list does not go with a secret'],
  ])('%o is refused when it is set', (options, message) => {
    expect(() => jwtAuthenticator(options)).toThrow(message);
    expect(() => jwtAuthenticator(options)).toThrow(HubError);
  });
});

describe("an identity provider's keys", () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ed = generateKeyPairSync('ed25519');
  let keys: JWK[] = [];
  let status = 200;
  let fetches = 0;
  let server: Server;
  let origin: string;

  beforeAll(async () => {
    server = createServer((request, response) => {
      fetches++;
      if (request.url === '/moved') response.writeHead(302, { location: '/keys' }).end();
      else response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  afterAll(() => new Promise((resolve) => server.close(resolve)));

  const publish = async (...pairs: [string, string, typeof rsa][]): Promise<void> => {
    keys = await Promise.all(
      pairs.map(async ([kid, alg, { publicKey }]) => ({ ...(await exportJWK(publicKey)), kid, alg, use: 'sig' })),
    );
  };
  const sign = (kid: string, alg: string, { privateKey }: typeof rsa): Promise<string> =>
    new SignJWT(good).setProtectedHeader({ alg, kid, typ: 'JWT' }).sign(privateKey);
  const fromProvider = (path = '/keys', jwksCooldownMs?: number) =>
    jwtAuthenticator({ jwksUrl: `${origin}${path}`, issuer, audience, clock, jwksCooldownMs });

  test('RS256, ES256 and EdDSA are accepted, each by its own key', async () => {
    await publish(['r', 'RS256', rsa], ['e', 'ES256', ec], ['d', 'EdDSA', ed]);
    const authenticator = fromProvider();
    for (const [kid, alg, pair] of [
      ['r', 'RS256', rsa],
      ['e', 'ES256', ec],
      ['d', 'EdDSA', ed],
    ] as const)
      expect(await answer(authenticator.authenticate({ bearer: await sign(kid, alg, pair) }))).toBe('accepted ann');
  });

  test('HS256 signed with the public key is refused: it is no secret', async () => {
    await publish(['r', 'RS256', rsa]);
    const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
    const bearer = handmade(good, { kid: 'r' }, pem as string);
    expect(await answer(fromProvider().authenticate({ bearer }))).toBe(
      "unauthenticated: the token's algorithm is not allowed here",
    );
  });

  test('jku, x5u and a kid that is an address lead nowhere: only the configured URL is fetched', async () => {
    await publish(['r', 'RS256', rsa]);
    const before = fetches;
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const bearer = await new SignJWT(good)
      .setProtectedHeader({
        alg: 'RS256',
        kid: `${origin}/evil`,
        jku: `${origin}/evil`,
        x5u: `${origin}/evil`,
        typ: 'JWT',
      })
      .sign(other.privateKey);
    expect(await answer(fromProvider().authenticate({ bearer }))).toBe(
      'unauthenticated: the token is signed with a key that its issuer does not publish',
    );
    expect(fetches - before).toBe(1);
  });

  test('after a change of keys the new one is fetched and the old one is refused', async () => {
    await publish(['one', 'RS256', rsa]);
    const authenticator = fromProvider('/keys', 0);
    const old = await sign('one', 'RS256', rsa);
    expect(await answer(authenticator.authenticate({ bearer: old }))).toBe('accepted ann');
    await publish(['two', 'ES256', ec]);
    expect(await answer(authenticator.authenticate({ bearer: await sign('two', 'ES256', ec) }))).toBe('accepted ann');
    expect(await answer(authenticator.authenticate({ bearer: old }))).toBe(
      'unauthenticated: the token is signed with a key that its issuer does not publish',
    );
  });

  test('unknown keys make nobody hammer the provider', async () => {
    await publish(['r', 'RS256', rsa]);
    const authenticator = fromProvider();
    await authenticator.authenticate({ bearer: await sign('r', 'RS256', rsa) });
    const before = fetches;
    for (let i = 0; i < 20; i++)
      await answer(authenticator.authenticate({ bearer: await sign(`x${i}`, 'RS256', rsa) }));
    expect(fetches).toBe(before);
  });

  test('a provider that is away is unavailable, and not the fault of the token', async () => {
    await publish(['r', 'RS256', rsa]);
    status = 500;
    const authenticator = fromProvider();
    const bearer = await sign('r', 'RS256', rsa);
    expect(await answer(authenticator.authenticate({ bearer }))).toBe(
      `unavailable: the keys to check tokens with cannot be fetched from ${origin}/keys`,
    );
    status = 200;
    expect(await answer(authenticator.authenticate({ bearer }))).toBe('accepted ann');
  });

  test('a redirect of the keys is not followed', async () => {
    await publish(['r', 'RS256', rsa]);
    const said = await answer(fromProvider('/moved').authenticate({ bearer: await sign('r', 'RS256', rsa) }));
    expect(said).toBe(`unavailable: the keys to check tokens with cannot be fetched from ${origin}/moved`);
  });
});
