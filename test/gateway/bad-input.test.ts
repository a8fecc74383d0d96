import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { costsNothing } from '../support/footprint.ts';
import { type Rig, raw, rig, type SseReader, watch } from './support.ts';

/** Bad requests, and the exact answer to each; healthy traffic runs beside them all the time. */
let at: Rig;
let healthy: SseReader;
let seen = 0;

beforeAll(async () => {
  at = await rig({
    limits: { bodyBytes: 100_000, headerBytes: 16_384, requestMs: 600 },
    allowedOrigins: ['https://app.example'],
  });
  healthy = await watch(`${at.url}/v1/events?channel=fleet`);
  await healthy.next();
});

afterAll(async () => {
  healthy.leave();
  await at[Symbol.asyncDispose]();
});

const stillWell = async () => {
  at.append('fleet', 'tick', ++seen);
  expect(JSON.parse((await healthy.event()).data).data).toBe(seen);
  expect(at.gateway.openStreams).toBe(1);
  // Nothing of what was refused came to the hub, and what is right is done.
  expect(at.hub.sent).toEqual([]);
  const headers = { 'content-type': 'application/json' };
  const good = await fetch(at.url + send, { method: 'POST', headers, body: '{"type":"t","payloadBase64":""}' });
  expect(await good.json()).toMatchObject({ state: 'succeeded' });
  at.hub.sent.length = 0;
};

const deep = (depth: number) => `{"payload":${'['.repeat(depth)}${']'.repeat(depth)}}`;
const send = '/v1/clients/pump-7/commands';

const bodies: [string, string | Buffer, object][] = [
  ['broken JSON', '{"type":', { status: 400, code: 'malformed-request', detail: 'the body is not valid JSON' }],
  ['a secret in broken JSON', '{"token":"s3cret",,', { detail: 'the body is not valid JSON' }],
  ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), { status: 400, detail: 'the body is not UTF-8' }],
  ['an empty body', '', { status: 400, code: 'malformed-request' }],
  ['an array', '[]', { status: 400, code: 'invalid-argument', field: 'body' }],
  ['null', 'null', { status: 400, code: 'invalid-argument', field: 'body' }],
  [
    'an unknown field',
    '{"type":"t","payloadBase64":"","tpye":1}',
    { status: 400, field: 'tpye', detail: 'unknown field "tpye" in body' },
  ],
  ['a wrong type', '{"type":7}', { status: 400, field: 'type' }],
  [
    '__proto__',
    '{"type":"t","__proto__":{"admin":true}}',
    { status: 400, field: '__proto__', detail: 'the field name "__proto__" is not allowed' },
  ],
  [
    '__proto__ inside',
    '{"type":"t","payload":{"a":[{"__proto__":1}]}}',
    { status: 400, field: 'payload.a.0.__proto__' },
  ],
  ['constructor inside', '{"payload":{"constructor":{"prototype":{}}}}', { status: 400, field: 'payload.constructor' }],
  [
    '10,000 levels',
    deep(10_000),
    { status: 400, field: 'payload', detail: '"payload" is nested more than 64 levels deep' },
  ],
  ['a body over the limit', `{"type":"${'x'.repeat(100_001)}"}`, { status: 413, code: 'payload-too-large' }],
  ['neither method nor type', '{}', { status: 400, field: 'method' }],
  ['both method and type', '{"type":"t","method":"m"}', { status: 400, field: 'method' }],
  ['both payloads', '{"type":"t","payload":1,"payloadBase64":""}', { status: 400, field: 'payload' }],
  [
    'no base64',
    '{"type":"t","payloadBase64":"a b"}',
    { status: 400, field: 'payloadBase64', detail: 'payloadBase64 is not base64' },
  ],
  [
    'a JSON payload of an unknown type',
    '{"type":"t.T","payload":{}}',
    { status: 400, field: 'type', detail: expect.stringMatching(/payloadBase64.*--proto/) },
  ],
  [
    'a method name of an unknown type',
    '{"method":"start"}',
    { status: 400, field: 'method', detail: expect.stringMatching(/--proto/) },
  ],
  ['a time of zero', '{"type":"t","payloadBase64":"","timeoutMs":0}', { status: 400, field: 'timeoutMs' }],
  ['a negative time to live', '{"type":"t","payloadBase64":"","ttlMs":-1}', { status: 400, field: 'ttlMs' }],
  ['2^63', '{"type":"t","payloadBase64":"","ttlMs":9223372036854775808}', { status: 400, field: 'ttlMs' }],
  [
    'a key with a line break',
    '{"type":"t","payloadBase64":"","idempotencyKey":"a\\rb"}',
    { status: 400, field: 'idempotencyKey' },
  ],
  [
    'a coalesce key for a live command',
    '{"type":"t","payloadBase64":"","coalesceKey":"k"}',
    { status: 400, field: 'coalesceKey' },
  ],
];
test.each(bodies)('a command that is %s is refused', async (_, body, expected) => {
  const response = await fetch(at.url + send, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json' },
  });
  const problem = (await response.json()) as { status: number; detail: string };
  expect(problem).toMatchObject(expected);
  expect(problem.status).toBe(response.status);
  expect(response.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  expect(JSON.stringify(problem)).not.toMatch(/s3cret|node_modules|\.ts|at /);
  await stillWell();
});

const routes: [string, string, number, string, string | undefined][] = [
  ['GET', '/v1/events', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=a%0Ab', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=a%0Db', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=a%00', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=%EF%BB%BFa', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=../default/x', 400, 'invalid-argument', 'channel'],
  ['GET', '/v1/events?channel=*', 400, 'invalid-argument', 'channel'],
  [
    'GET',
    `/v1/events?${Array.from({ length: 17 }, (_, i) => `channel=c${i}`).join('&')}`,
    400,
    'invalid-argument',
    'channel',
  ],
  ['GET', '/v1/events?channel=fleet&chanel=x', 400, 'invalid-argument', 'chanel'],
  ['GET', '/v1/events?channel=fleet&from=yesterday', 400, 'invalid-argument', 'from'],
  ['GET', '/v1/events?channel=fleet&ticket=forged', 401, 'unauthenticated', undefined],
  ['GET', '/v1/clients?label=north', 400, 'invalid-argument', 'label'],
  ['GET', '/v1/clients?connected=yes', 400, 'invalid-argument', 'connected'],
  ['GET', '/v1/clients/%7B%7D', 400, 'invalid-argument', 'id'],
  ['GET', '/v1/clients/..%2f..%2fetc', 400, 'invalid-argument', 'id'],
  ['GET', '/v1/clients/a%0Db/events', 400, 'invalid-argument', 'id'],
  ['GET', `/v1/clients/${'a'.repeat(129)}`, 400, 'invalid-argument', 'id'],
  ['GET', `/v1/clients/${'a'.repeat(2_000)}`, 414, 'uri-too-long', undefined],
  ['GET', '/v1/clients/%zz', 400, 'malformed-request', undefined],
  ['GET', '/v1/commands?limit=0', 400, 'invalid-argument', 'limit'],
  ['GET', '/v1/commands?limit=1e9', 400, 'invalid-argument', 'limit'],
  ['GET', '/v1/commands/a.b', 400, 'invalid-argument', 'id'],
  ['GET', '/v1/commands/none', 404, 'not-found', undefined],
  ['GET', '/v2/clients', 404, 'unknown-route', undefined],
  ['GET', '/__proto__', 404, 'unknown-route', undefined],
  ['POST', '/v1/clients', 405, 'method-not-allowed', undefined],
  ['DELETE', '/v1/clients/pump-7', 405, 'method-not-allowed', undefined],
  ['PUT', '/v1/events', 405, 'method-not-allowed', undefined],
  ['GET', '/v1/tickets', 405, 'method-not-allowed', undefined],
  ['GET', send, 405, 'method-not-allowed', undefined],
];
test.each(routes)('%s %s is answered %i %s', async (method, path, status, code, field) => {
  const response = await fetch(at.url + path, { method });
  expect(response.status).toBe(status);
  const problem = (await response.json()) as { field?: string };
  expect(problem).toMatchObject({ status, code });
  expect(problem.field).toBe(field);
  if (status === 405) expect(response.headers.get('allow')).toContain('OPTIONS');
  await stillWell();
});

test.each([
  ['text/plain', 415],
  ['application/x-www-form-urlencoded', 415],
  ['multipart/form-data; boundary=x', 415],
  ['application/jsonp', 415],
])('a body of type %s is answered %i', async (type, status) => {
  const response = await fetch(at.url + send, {
    method: 'POST',
    body: '{"type":"t","payloadBase64":""}',
    headers: { 'content-type': type },
  });
  expect(response.status).toBe(status);
  expect(await response.json()).toMatchObject({ code: 'unsupported-media-type' });
  await stillWell();
});

const texts: [string, string, number, string][] = [
  [
    'a foreign Host',
    'GET /v1/clients HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    421,
    'host-not-allowed',
  ],
  [
    'a Host that only begins like ours',
    'GET /v1/clients HTTP/1.1\r\nHost: localhost.evil.example\r\nConnection: close\r\n\r\n',
    421,
    'host-not-allowed',
  ],
  ['no Host', 'GET /v1/clients HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'malformed-request'],
  [
    'a foreign Origin',
    'POST /v1/clients/pump-7/disconnect HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
    403,
    'origin-not-allowed',
  ],
  [
    'the Origin null',
    'GET /v1/events?channel=fleet HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nConnection: close\r\n\r\n',
    403,
    'origin-not-allowed',
  ],
  ['no HTTP', 'hello\r\n\r\n', 400, 'malformed-request'],
  ['TLS on the plain port', '\x16\x03\x01\x02\x00', 400, 'malformed-request'],
  [
    'headers over the limit',
    `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
    431,
    'headers-too-large',
  ],
  [
    'two lengths',
    'POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    400,
    'malformed-request',
  ],
  [
    'a length and chunks',
    'POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
    'malformed-request',
  ],
  ['a lone CR in a header', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n', 400, 'malformed-request'],
  ['headers that do not end', 'GET / HTTP/1.1\r\nHost: local', 408, 'request-timeout'],
  [
    'a body that does not end',
    'POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{',
    408,
    'request-timeout',
  ],
];
test.each(texts)('a request with %s is answered and closed', async (_, text, status, code) => {
  const answer = await raw(at.port, text);
  expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect(answer).toContain('application/problem+json');
  expect(JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1))).toMatchObject({ status, code });
  await stillWell();
});

test('a connection that says nothing is closed', async () => {
  expect(await raw(at.port, '')).toMatch(/^(HTTP\/1.1 408 |$)/);
  await stillWell();
});

test('HEAD and OPTIONS answer on every route and change nothing', async () => {
  const api = (await (await fetch(`${at.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, object>>;
  };
  for (const [pattern, item] of Object.entries(api.paths)) {
    const path = pattern.replace('{id}', 'pump-7').replace('{name}', 'fleet').replace('{*}', 'x');
    const options = await fetch(at.url + path, { method: 'OPTIONS' });
    expect([path, options.status]).toEqual([path, 204]);
    for (const method of Object.keys(item)) expect(options.headers.get('allow')).toContain(method.toUpperCase());
    const query = path === '/v1/events' || path === '/v1/ws' ? '?channel=fleet' : '';
    const head = await fetch(at.url + path + query, { method: 'HEAD' });
    // One route is for WebSockets alone, one needs an archive: they say so.
    const expected = path === '/v1/ws' ? [426] : path === '/v1/archive' ? [501] : 'get' in item ? [200, 404] : [405];
    expect(expected, `HEAD ${path}`).toContain(head.status);
    expect(await head.text()).toBe('');
  }
  await stillWell();
});

test('pages of allowed origins may call, others may not, also in a preflight', async () => {
  const preflight = (origin: string) =>
    fetch(at.url + send, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
    });
  const allowed = await preflight('https://app.example');
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get('access-control-allow-origin')).toBe('https://app.example');
  expect(allowed.headers.get('access-control-allow-headers')).toContain('authorization');
  expect(allowed.headers.get('access-control-allow-credentials')).toBeNull();
  const foreign = await preflight('https://evil.example');
  expect(foreign.status).toBe(403);
  expect(foreign.headers.get('access-control-allow-origin')).toBeNull();
  const stream = await watch(`${at.url}/v1/events?channel=fleet`, { headers: { origin: 'https://app.example' } });
  expect(stream.response.headers.get('access-control-allow-origin')).toBe('https://app.example');
  expect(stream.response.headers.get('vary')).toBe('Origin');
  stream.leave();
  const own = await fetch(`${at.url}/v1/clients`, { headers: { origin: at.url } });
  expect(own.status).toBe(200);
});

test('many broken connections at once leave nothing behind', async () => {
  const sockets = Array.from({ length: 100 }, (_, i) => {
    const socket = connect(at.port, '127.0.0.1', () => {
      socket.write(i % 2 === 0 ? 'GET /v1/events?channel=fleet HTTP/1.1\r\nHost: localhost\r\n\r\n' : 'GET /v1/ev');
    });
    socket.on('error', () => undefined);
    return socket;
  });
  await new Promise((resolve) => setImmediate(resolve));
  for (const socket of sockets) socket.resetAndDestroy();
  await expect.poll(() => at.gateway.openStreams).toBe(1);
  await stillWell();
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(async () => {
    const post = (body: string | Buffer) =>
      fetch(at.url + send, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
    await Promise.all([
      ...bodies.map(async ([, body]) => (await post(body)).arrayBuffer()),
      ...routes.map(async ([method, path]) => (await fetch(at.url + path, { method })).arrayBuffer()),
      ...texts.map(([, text]) => raw(at.port, text)),
    ]);
  });
  await stillWell();
});
