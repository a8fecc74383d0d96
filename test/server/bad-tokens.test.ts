import { createHmac, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mintToken, type Scope } from '../../src/auth/index.ts';
import { connectDevice } from '../../src/device/index.ts';
import { toHubError } from '../../src/errors.ts';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { WsClient } from '../gateway/ws-client.ts';
import { costsNothing } from '../support/footprint.ts';
import { type HealthyPeers, healthyPeers, livenessMs } from '../support/healthy.ts';

// One server that asks for tokens; each bad one is tried at every door, beside peers whose tokens are good.
const secret = 'b7Vt0mJ2q8Xc5nR1yK4wZ6sD3fG9hL0p';
const folder = mkdtempSync(join(tmpdir(), 'signalbox-bad-tokens-'));
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
let server: SignalboxServer;
let http: string;
let address: string;
let peers: HealthyPeers;

const mint = (subject: string, scopes: Scope[], ttlMs = 3_600_000): Promise<string> =>
  mintToken({ secret, issuer: 'signalbox', audience: 'signalbox', subject, scopes, ttlMs });

beforeAll(async () => {
  const authSecretFile = join(folder, 'secret');
  writeFileSync(authSecretFile, secret, { mode: 0o600 });
  server = await serve(
    {
      grpc: '127.0.0.1:0',
      http: '127.0.0.1:0',
      data: join(folder, 'data'),
      auth: 'jwt',
      authSecretFile,
      preset: 'test',
      livenessMs,
    },
    { sources: { env: {}, cwd: folder } },
  );
  [address, http] = [server.grpc[0]!, server.http[0]!];
  const deviceToken = await mint('healthy', ['device']);
  peers = await healthyPeers({
    address,
    deviceToken,
    callerToken: await mint('ann', ['commands:send', 'events:read']),
  });
});
afterAll(async () => {
  await peers[Symbol.asyncDispose]();
  await server.close();
  rmSync(folder, { recursive: true });
});

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const nowS = Math.floor(Date.now() / 1000);
const good = {
  iss: 'signalbox',
  aud: 'signalbox',
  sub: 'bad',
  exp: nowS + 3600,
  scope: 'device commands:send events:read clients:read',
};
/** Signed by hand: libraries refuse to make bad ones. */
function handmade(claims: object, header: object = {}, key: string | Buffer = secret): string {
  const text = `${part({ alg: 'HS256', typ: 'JWT', ...header })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
}
const without = (claim: keyof typeof good): object =>
  Object.fromEntries(Object.entries(good).filter(([key]) => key !== claim));
const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;

/** What each door says to a token. */
const doors: Record<string, (token: string) => Promise<string>> = {
  'a device over gRPC': async (token) => {
    const connecting = connectDevice({ address, clientId: 'bad', token, connectTimeoutMs: 10_000 });
    const device = await connecting.catch(toHubError);
    if ('code' in device) return `${device.code}: ${device.message.replace(`${address}: `, '')}`;
    await device.close({ timeoutMs: 0 });
    return 'welcome';
  },
  'a caller over gRPC': async (token) => {
    const transport = grpcTransport({ address, token });
    const said = await collect(transport.send(testCommand({ clientId: 'healthy' }))).catch(toHubError);
    await transport.close();
    return 'code' in said ? `${said.code}: ${said.message}` : 'welcome';
  },
  'a watcher over gRPC': async (token) => {
    const clients = hubClients({ address, token });
    const said = await clients.clients.listClients({}).catch(toHubError);
    await clients.close();
    return 'code' in said ? `${said.code}: ${said.message}` : 'welcome';
  },
  HTTP: async (token) => said(await fetch(`${http}/v1/clients`, { headers: bearer(token) })),
  SSE: async (token) => said(await fetch(`${http}/v1/events?channel=client.healthy`, { headers: bearer(token) })),
  WebSocket: async (token) => {
    const client = await WsClient.open(`${http}/v1/ws?channel=client.healthy`, bearer(token)).catch(
      (error: Error) => error,
    );
    if (!(client instanceof Error)) {
      client.leave();
      return 'welcome';
    }
    const { status, code, detail } = JSON.parse(client.message.slice(4)) as Record<string, string>;
    return `${status} ${code}: ${detail}`;
  },
};
const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });
async function said(response: Response): Promise<string> {
  if (response.ok) {
    await response.body?.cancel();
    return 'welcome';
  }
  const { status, code, detail } = (await response.json()) as Record<string, string>;
  return `${status} ${code}: ${detail}`;
}

const bad: [string, string, string][] = [
  ['alg none', `${part({ alg: 'none', typ: 'JWT' })}.${part(good)}.`, "the token's algorithm is not allowed here"],
  ['RS256 in place of HS256', handmade(good, { alg: 'RS256' }), "the token's algorithm is not allowed here"],
  ['the PEM of a public key as the secret', handmade(good, {}, pem), "the token's signature is not valid"],
  ['a short secret', handmade(good, {}, 'secret'), "the token's signature is not valid"],
  ['an empty secret', handmade(good, {}, ''), "the token's signature is not valid"],
  ['no exp', handmade(without('exp')), 'the token has no exp claim'],
  ['an exp in the past', handmade({ ...good, exp: nowS - 10 }), 'the token has expired'],
  ['an nbf in the future', handmade({ ...good, nbf: nowS + 3000 }), 'the token is not valid yet'],
  ['unknown crit', handmade(good, { crit: ['b65'], b65: 1 }), 'the token asks for an extension that is not supported'],
  ['wrong iss', handmade({ ...good, iss: 'https://evil.example' }), "the token's iss is not the one expected here"],
  ['wrong aud', handmade({ ...good, aud: 'another' }), "the token's aud is not the one expected here"],
  ['wrong type', handmade(good, { typ: 'logout+jwt' }), 'the token\'s typ is "logout+jwt", not JWT'],
  [
    'kid with a path, and a secret of its file',
    handmade(good, { kid: '../../../dev/null' }, ''),
    "the token's signature is not valid",
  ],
  [
    'jku and x5u of a server of its own',
    handmade(good, { jku: 'http://127.0.0.1:9/k', x5u: 'http://127.0.0.1:9/x' }, 'y'.repeat(32)),
    "the token's signature is not valid",
  ],
  [
    'a key of its own in the header',
    handmade(good, { jwk: { kty: 'oct', k: part('k') } }, 'k'),
    "the token's signature is not valid",
  ],
  ['something that is no JWT', 'letmein', 'the token is not a signed JWT'],
  ['7 KB', 'A'.repeat(7000), 'the token is not a signed JWT'],
];
const everywhere = bad.flatMap(([name, token, why]) => Object.keys(doors).map((door) => ({ name, token, why, door })));

test.each(everywhere)('$name is refused at the door of $door', async ({ token, why, door }) => {
  const expected = door.includes('gRPC') ? `unauthenticated: ${why}` : `401 unauthenticated: ${why}`;
  expect(await doors[door]!(token)).toBe(expected);
  await peers.beat();
});

/** Good tokens at doors that are not theirs. */
const misplaced: [string, Scope[], string, string, Scope][] = [
  ["a device's token", ['device'], 'a caller over gRPC', '', 'commands:send'],
  ["a device's token", ['device'], 'a watcher over gRPC', '', 'clients:read'],
  ["a device's token", ['device'], 'HTTP', '403 ', 'clients:read'],
  ["a device's token", ['device'], 'SSE', '403 ', 'events:read'],
  ["a device's token", ['device'], 'WebSocket', '403 ', 'events:read'],
  ["a user's token", ['commands:send', 'events:read', 'clients:read'], 'a device over gRPC', '', 'device'],
  ["a sender's token", ['commands:send'], 'HTTP', '403 ', 'clients:read'],
  ["a watcher's token", ['events:read'], 'a caller over gRPC', '', 'commands:send'],
];
test.each(misplaced)('%s with %j is refused at the door of %s', async (_, scopes, door, status, needed) => {
  const why = `"bad" lacks the scope ${needed} (it has: ${scopes.join(' ')})`;
  expect(await doors[door]!(await mint('bad', scopes))).toBe(`${status}permission-denied: ${why}`);
  await peers.beat();
});

test('a token of 1 MB is refused before anybody looks at it, and costs only its own call', async () => {
  const huge = 'A'.repeat(2 ** 20);
  const told: Record<string, string> = {};
  for (const [name, door] of Object.entries(doors))
    told[name] = await Promise.resolve(huge)
      .then(door)
      .catch((error) => `${error.code}: ${error.message}`);
  const here = 'the token has 1048576 bytes, the limit is 8192';
  const there = '431 headers-too-large: the request headers are larger than this gateway takes';
  expect(told).toEqual({
    'a device over gRPC': `unauthenticated: ${here}`,
    'a caller over gRPC': `invalid-argument: ${here}`,
    'a watcher over gRPC': `invalid-argument: ${here}`,
    HTTP: there,
    SSE: there,
    WebSocket: there,
  });
  await peers.beat();
});

test('a stream ends with its token, over every road, and a device that gets a new one goes on', async () => {
  const ttlMs = 3000;
  const short = await mint('bad', ['device', 'events:read', 'commands:send'], ttlMs);
  const events: string[] = [];
  let tokens = 0;
  const device = await connectDevice({
    address,
    clientId: 'bad',
    backoff: { minMs: 10, maxMs: 20 },
    token: async () => (tokens++ === 0 ? short : await mint('bad', ['device'])),
  });
  const sse = await fetch(`${http}/v1/events?channel=client.bad`, { headers: bearer(short) });
  const ws = await WsClient.open(`${http}/v1/ws?channel=client.bad`, bearer(short));
  const clients = hubClients({ address, token: short });
  const watching = (async () => {
    for await (const { event } of clients.events.watchEvents({ channels: ['client.bad'] }))
      events.push(event?.type ?? '');
  })().catch(toHubError);
  expect(await sse.text()).toContain('event: hub.expired');
  const messages: string[] = [];
  for (let next = await ws.next(); next !== undefined; next = await ws.next()) messages.push(next.event);
  expect(messages).toContain('hub.expired');
  expect(await watching).toMatchObject({
    code: 'unauthenticated',
    message: 'the credential of this stream has expired',
  });
  await expect.poll(() => tokens).toBeGreaterThan(1);
  await expect.poll(() => device.state.kind).toBe('connected');
  await clients.close();
  await device.close({ timeoutMs: 0 });
  await peers.beat();
});

test('no key is looked for where a token says, and an RSA signature is none here', async () => {
  const text = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(good)}`;
  const { sign } = await import('node:crypto');
  const token = `${text}.${sign('sha256', Buffer.from(text), privateKey).toString('base64url')}`;
  expect(await doors.HTTP!(token)).toBe("401 unauthenticated: the token's algorithm is not allowed here");
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      await Promise.all(everywhere.map(({ token, door }) => doors[door]!(token)));
    },
    { times: 8 },
  );
  await peers.beat();
});
