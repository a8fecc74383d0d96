import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import type { PayloadJson } from '../../src/schemas/payload-json.ts';
import { rig, updateOf } from './support.ts';

const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });

const types: PayloadJson = {
  encode: ({ method, json }) => {
    if (method !== 'start') throw new HubError('invalid-argument', `no method "${method}" is known`);
    if (json !== undefined && !('rpm' in (json as object))) throw new HubError('invalid-argument', 'unknown key "rmp"');
    return { type: 'test.Pump/Start', value: Buffer.from(JSON.stringify(json ?? {})) };
  },
  decode: ({ type, value }) => (type === 'test.Pong' ? { text: Buffer.from(value).toString() } : undefined),
  methods: () => [],
};

test('a live command is answered with its result, also as JSON where the type is known', async () => {
  await using at = await rig({ types });
  const response = await post(`${at.url}/v1/clients/pump-7/commands`, { method: 'start', payload: { rpm: 1200 } });
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({
    commandId: at.hub.sent[0]!.id,
    clientId: 'pump-7',
    state: 'succeeded',
    at: '1970-01-01T00:00:01.000Z',
    result: { type: 'test.Pong', base64: 'cG9uZw==', json: { text: 'pong' } },
  });
  expect(response.headers.get('location')).toBe(`/v1/commands/${at.hub.sent[0]!.id}`);
  expect(at.hub.sent[0]).toMatchObject({
    tenant: 'default',
    payload: { type: 'test.Pump/Start' },
    whenOffline: 'fail',
    timeoutMs: 30_000,
  });
});

test('a queued command is answered as soon as it is stored', async () => {
  await using at = await rig();
  const response = await post(
    `${at.url}/v1/clients/pump-7/commands`,
    { type: 't.T', payloadBase64: 'AAE=', whenOffline: 'queue', ttlMs: 5000, coalesceKey: 'config', orderingKey: 'o' },
    { 'idempotency-key': 'k1', traceparent: '00-aa-bb-01' },
  );
  expect(response.status).toBe(202);
  expect(await response.json()).toMatchObject({ state: 'queued' });
  expect(at.hub.sent[0]).toMatchObject({
    payload: { type: 't.T', value: Buffer.from([0, 1]) },
    whenOffline: 'queue',
    ttlMs: 5000,
    coalesceKey: 'config',
    orderingKey: 'o',
    idempotencyKey: 'k1',
    traceparent: '00-aa-bb-01',
  });
});

test('wait: delivered answers when the device has it', async () => {
  await using at = await rig();
  const body = { type: 't.T', payloadBase64: '', wait: 'delivered' };
  const response = await post(`${at.url}/v1/clients/pump-7/commands`, body);
  expect([response.status, ((await response.json()) as { state: string }).state]).toEqual([200, 'delivered']);
});

test('an answer that does not come in time is 202 with what is known', async () => {
  await using at = await rig({ limits: { maxWaitMs: 50 } });
  at.hub.script = async function* (command) {
    yield updateOf(command, { state: 'queued' });
    await new Promise(() => undefined);
  };
  const response = await post(`${at.url}/v1/clients/pump-7/commands`, { type: 't.T', payloadBase64: '' });
  expect([response.status, ((await response.json()) as { state: string }).state]).toEqual([202, 'queued']);
});

test.each([
  [{ state: 'failed', error: { code: 'dry', message: 'no water' } }, 502, 'command-failed'],
  [{ state: 'rejected', error: { code: 'unimplemented', message: 'no such method' } }, 422, 'command-rejected'],
  [{ state: 'cancelled', error: { code: 'cancelled', message: 'by ann' } }, 409, 'command-cancelled'],
  [{ state: 'expired', error: { code: 'timed-out', message: '' } }, 504, 'command-expired'],
  [{ state: 'unknown', error: { code: 'interrupted', message: '' } }, 502, 'outcome-unknown'],
])('a command that ends as %o is status %i', async (end, status, code) => {
  await using at = await rig();
  at.hub.script = async function* (command) {
    yield updateOf(command, { state: 'queued' });
    yield updateOf(command, end);
  };
  const response = await post(`${at.url}/v1/clients/pump-7/commands`, { type: 't.T', payloadBase64: '' });
  expect(response.status).toBe(status);
  expect(response.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  expect(await response.json()).toMatchObject({
    code,
    status,
    deviceCode: end.error.code,
    commandId: at.hub.sent[0]!.id,
  });
});

test.each([
  ['client-offline', 503, null],
  ['mailbox-full', 429, '1'],
  ['idempotency-conflict', 409, null],
  ['unavailable', 503, '3'],
  ['deadline-exceeded', 504, null],
  ['permission-denied', 403, null],
] as const)('a command that is refused with %s is status %i', async (code, status, retryAfter) => {
  await using at = await rig();
  // biome-ignore lint/correctness/useYield: it never comes to that
  at.hub.script = async function* () {
    throw new HubError(code, `because of ${code}`, code === 'unavailable' ? { retryAfterMs: 2_500 } : {});
  };
  for (const accept of ['application/json', 'text/event-stream']) {
    const response = await post(`${at.url}/v1/clients/pump-7/commands`, { type: 't.T', payloadBase64: '' }, { accept });
    expect(response.status).toBe(status);
    expect(response.headers.get('retry-after')).toBe(retryAfter);
    expect(await response.json()).toMatchObject({ code, detail: `because of ${code}` });
  }
});

test('an error of the inside tells nothing of it', async () => {
  const facts: unknown[] = [];
  await using at = await rig({ observe: (fact) => facts.push(fact) });
  at.hub.get = async () => {
    throw new TypeError('secret of /etc/passwd');
  };
  const response = await fetch(`${at.url}/v1/commands/c-1`);
  expect(response.status).toBe(500);
  const text = await response.text();
  expect(text).not.toContain('secret');
  expect(JSON.parse(text)).toMatchObject({ code: 'internal', title: 'Internal' });
  expect(facts).toContainEqual(
    expect.objectContaining({ kind: 'request-failed', route: '/v1/commands/:id', error: expect.any(HubError) }),
  );
});

test('clients are listed, filtered by label and presence, and shown alone', async () => {
  await using at = await rig();
  at.hub.addClient('a', { site: 'north', kind: 'pump' });
  at.hub.addClient('b', { site: 'north' }, false);
  const ids = async (query: string) => {
    const { clients } = (await (await fetch(`${at.url}/v1/clients${query}`)).json()) as { clients: { id: string }[] };
    return clients.map(({ id }) => id);
  };
  expect(await ids('')).toEqual(['pump-7', 'a', 'b']);
  expect(await ids('?label=site:north')).toEqual(['a', 'b']);
  expect(await ids('?label=site:north&label=kind:pump')).toEqual(['a']);
  expect(await ids('?label=site:north&connected=true')).toEqual(['a']);
  expect(await (await fetch(`${at.url}/v1/clients/a`)).json()).toMatchObject({
    id: 'a',
    connected: true,
    labels: { site: 'north' },
    connectedAt: '1970-01-01T00:00:01.000Z',
  });
  expect((await fetch(`${at.url}/v1/clients/nobody`)).status).toBe(404);
  expect(await (await fetch(`${at.url}/v1/clients/a/disconnect`, { method: 'POST' })).json()).toEqual({
    disconnected: true,
  });
  expect(await (await post(`${at.url}/v1/clients/b/disconnect`, { reason: 'x' })).json()).toEqual({
    disconnected: false,
  });
});

test('commands are listed, shown and cancelled', async () => {
  await using at = await rig();
  await post(`${at.url}/v1/clients/pump-7/commands`, { type: 't.T', payloadBase64: '' });
  const { id } = at.hub.sent[0]!;
  const record = { commandId: id, clientId: 'pump-7', state: 'succeeded', type: 't.T', whenOffline: 'fail' };
  const list = (await (await fetch(`${at.url}/v1/commands?clientId=pump-7&pending=false`)).json()) as object;
  expect(list).toMatchObject({ commands: [record] });
  expect(await (await fetch(`${at.url}/v1/commands/${id}`)).json()).toMatchObject(record);
  const cancelled = await fetch(`${at.url}/v1/commands/${id}/cancel`, { method: 'POST' });
  expect(await cancelled.json()).toMatchObject({ commandId: id, state: 'succeeded' });
  expect(at.hub.cancelled).toEqual([id]);
  expect((await fetch(`${at.url}/v1/commands/none/cancel`, { method: 'POST' })).status).toBe(404);
  expect((await fetch(`${at.url}/v1/commands/none/events`)).status).toBe(404);
});

test('the history of a channel is read page by page', async () => {
  await using at = await rig();
  for (let i = 0; i < 5; i++) at.append('client.pump-7', 'tick', i);
  interface Page {
    events: { data: number }[];
    next: string;
    atEnd: boolean;
  }
  const url = `${at.url}/v1/channels/client.pump-7/history?limit=3`;
  const first = (await (await fetch(url)).json()) as Page;
  expect(first.events.map(({ data }) => data)).toEqual([0, 1, 2]);
  expect(first.atEnd).toBe(false);
  const second = (await (await fetch(`${url}&after=${first.next}`)).json()) as Page;
  expect(second.events.map(({ data }) => data)).toEqual([3, 4]);
  expect(second.atEnd).toBe(true);
  const bad = await fetch(`${url}&after=nonsense`);
  expect([bad.status, await bad.json()]).toMatchObject([400, { field: 'after' }]);
});

test('health, readiness and figures', async () => {
  let ok = true;
  await using at = await rig({
    ready: () => ({ ok, reasons: ok ? [] : ['the store is away'] }),
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4', body: 'up 1\n' }),
  });
  expect(await (await fetch(`${at.url}/health`)).json()).toEqual({ ok: true });
  expect((await fetch(`${at.url}/ready`)).status).toBe(200);
  ok = false;
  const ready = await fetch(`${at.url}/ready`);
  expect([ready.status, await ready.json()]).toEqual([503, { ok: false, reasons: ['the store is away'] }]);
  const metrics = await fetch(`${at.url}/metrics`);
  expect([metrics.headers.get('content-type'), await metrics.text()]).toEqual(['text/plain; version=0.0.4', 'up 1\n']);
});

test('the built-in page and its modules are served, and nothing beside them', async () => {
  await using at = await rig({
    page: {
      html: '<!doctype html><title>Signalbox</title>',
      module: async (path) =>
        path === 'index.js' ? { body: 'export {};', type: 'text/javascript; charset=utf-8' } : undefined,
    },
  });
  const page = await fetch(`${at.url}/`);
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(page.headers.get('content-security-policy')).toContain("default-src 'self'");
  const module = await fetch(`${at.url}/browser/index.js`);
  expect([module.headers.get('content-type'), await module.text()]).toEqual([
    'text/javascript; charset=utf-8',
    'export {};',
  ]);
  for (const path of ['/browser/none.js', '/browser/..%2f..%2fetc/passwd', '/browser/%2e%2e/x', '/browser/'])
    expect((await fetch(at.url + path)).status).toBe(404);
});

interface OpenApi {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
}
interface Operation {
  summary?: string;
  parameters?: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: { additionalProperties?: boolean } }> };
  responses: Record<string, { description: string; content?: object }>;
}

test('every route is described, completely, in /openapi.json', async () => {
  await using at = await rig({
    metrics: async () => ({ contentType: 'text/plain', body: '' }),
    page: { html: '', module: async () => undefined },
  });
  const api = (await (await fetch(`${at.url}/openapi.json`)).json()) as OpenApi;
  expect(api.openapi).toMatch(/^3\.1\./);
  expect(
    Object.entries(api.paths)
      .flatMap(([path, item]) => Object.keys(item).map((method) => `${method} ${path}`))
      .sort(),
  ).toMatchInlineSnapshot(`
    [
      "get /",
      "get /browser/{*}",
      "get /health",
      "get /metrics",
      "get /openapi.json",
      "get /ready",
      "get /v1/archive",
      "get /v1/channels/{name}/history",
      "get /v1/clients",
      "get /v1/clients/{id}",
      "get /v1/clients/{id}/events",
      "get /v1/commands",
      "get /v1/commands/{id}",
      "get /v1/commands/{id}/events",
      "get /v1/events",
      "get /v1/ws",
      "post /v1/clients/{id}/commands",
      "post /v1/clients/{id}/disconnect",
      "post /v1/commands/{id}/cancel",
      "post /v1/login",
      "post /v1/login/refresh",
      "post /v1/tickets",
    ]
  `);
  for (const [path, item] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(item)) {
      const named = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
      const described = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(described.map(({ name }) => name).sort(), path).toEqual(named.sort());
      expect(operation.summary, `${method} ${path}`).toBeTruthy();
      for (const parameter of operation.parameters ?? []) expect(parameter.schema, path).toBeTypeOf('object');
      expect(Object.keys(operation.responses).length, path).toBeGreaterThan(0);
      for (const response of Object.values(operation.responses)) expect(response.description).toBeTypeOf('string');
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) expect(schema).toBeTypeOf('object');
    }
  const send = api.paths['/v1/clients/{id}/commands']!.post!;
  expect(send.requestBody!.content['application/json']!.schema.additionalProperties).toBe(false);
  // All references lead somewhere.
  const text = JSON.stringify(api);
  for (const [, pointer] of text.matchAll(/"\$ref":"#([^"]+)"/g))
    expect(
      pointer!
        .split('/')
        .slice(1)
        .reduce((at: unknown, key) => (at as Record<string, unknown>)[key], api),
    ).toBeDefined();
});

test('the documentation page needs nothing from elsewhere', async () => {
  await using at = await rig();
  const page = await fetch(`${at.url}/docs/`);
  expect(page.status).toBe(200);
  const html = await page.text();
  const links = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link]) => link!);
  expect(links.length).toBeGreaterThan(2);
  for (const link of links) {
    expect(link).not.toMatch(/^(https?:)?\/\//);
    expect((await fetch(new URL(link, `${at.url}/docs/`))).status).toBe(200);
  }
});
