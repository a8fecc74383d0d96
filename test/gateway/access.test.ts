import { expect, test } from 'vitest';
import type { Authenticator, Principal, Scope } from '../../src/auth/principal.ts';
import { HubError } from '../../src/errors.ts';
import { eventually } from '../support/eventually.ts';
import { rig, watch } from './support.ts';

const people: Record<string, Partial<Omit<Principal, 'scopes'>> & { scopes: Scope[] }> = {
  ann: { scopes: ['events:read', 'clients:read'], channels: ['client.pump-*', 'user.ann'] },
  bob: { scopes: ['commands:send'] },
  eve: { scopes: ['admin'], tenant: 'other' },
  root: { scopes: ['admin'] },
  pump: { scopes: ['device'] },
};
const authenticator: Authenticator = {
  async authenticate({ bearer }) {
    const known = people[bearer ?? ''];
    if (known === undefined) throw new HubError('unauthenticated', 'a token is needed');
    return { subject: bearer!, tenant: 'default', ...known, scopes: new Set(known.scopes) };
  },
};
const as = (who: string) => ({ authorization: `Bearer ${who}` });

test('without a credential only what is public is answered', async () => {
  await using at = await rig({ authenticator, metrics: async () => ({ contentType: 'text/plain', body: '' }) });
  for (const path of ['/health', '/ready', '/openapi.json', '/docs/'])
    expect([path, (await fetch(at.url + path)).status]).toEqual([path, 200]);
  for (const path of [
    '/v1/clients',
    '/v1/events?channel=fleet',
    '/v1/commands',
    '/metrics',
    '/v1/channels/fleet/history',
  ]) {
    const response = await fetch(at.url + path);
    expect([path, response.status]).toEqual([path, 401]);
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
  }
});

test.each([
  ['ann', '/v1/events?channel=client.pump-7', 200],
  ['ann', '/v1/events?channel=client.pump-7&channel=fleet', 403],
  ['ann', '/v1/clients/valve/events', 403],
  ['ann', '/v1/channels/user.bob/history', 403],
  ['ann', '/v1/channels/user.ann/history', 200],
  ['ann', '/v1/clients/pump-7', 200],
  ['ann', '/v1/clients/valve', 404],
  ['bob', '/v1/clients', 403],
  ['bob', '/v1/events?channel=fleet', 403],
  ['bob', '/v1/commands', 200],
  ['root', '/v1/clients/valve', 200],
  ['eve', '/v1/clients/valve', 404],
  ['pump', '/v1/clients', 403],
  ['pump', '/v1/commands', 403],
])('%s asks for %s and gets %i', async (who, path, status) => {
  await using at = await rig({ authenticator });
  at.hub.addClient('valve');
  const leave = new AbortController();
  const response = await fetch(at.url + path, { headers: as(who), signal: leave.signal });
  expect(response.status).toBe(status);
  leave.abort();
});

test('who may send may watch what becomes of it, others of its tenant may not, other tenants see nothing', async () => {
  await using at = await rig({ authenticator });
  const post = (who: string) =>
    fetch(`${at.url}/v1/clients/pump-7/commands`, {
      method: 'POST',
      headers: { ...as(who), 'content-type': 'application/json' },
      body: '{"type":"t.T","payloadBase64":""}',
    });
  expect((await post('ann')).status).toBe(403);
  const { commandId } = (await (await post('bob')).json()) as { commandId: string };
  const get = (who: string, path = '') => fetch(`${at.url}/v1/commands/${commandId}${path}`, { headers: as(who) });
  expect((await get('bob', '/events')).status).toBe(200);
  expect((await get('ann', '/events')).status).toBe(403);
  expect((await get('eve')).status).toBe(404);
  expect((await get('eve', '/events')).status).toBe(404);
});

test("a place in another user's channel is no place in one's own: it is told as a reset, and shows nothing of the other", async () => {
  await using at = await rig({ authenticator });
  at.append('user.bob', 'secret', 1);
  const theirs = await watch(`${at.url}/v1/events?channel=user.bob`, { headers: as('root') });
  const { id } = (await theirs.next())!;
  theirs.leave();
  at.append('user.bob', 'secret', 2);
  at.append('user.ann', 'own', 3);
  const headers = { ...as('ann'), 'last-event-id': id };
  expect((await fetch(`${at.url}/v1/events?channel=user.bob`, { headers })).status).toBe(403);
  const ann = await watch(`${at.url}/v1/events?channel=user.ann`, { headers });
  const [reset, own] = [await ann.event(), await ann.event()];
  expect([reset.name, own.name, JSON.parse(own.data)]).toMatchObject([
    'hub.reset',
    'own',
    { channel: 'user.ann', data: 3 },
  ]);
  expect(at.gateway.openStreams).toBe(1);
  ann.leave();
});

test('a ticket opens one stream, once; and opens nothing else', async () => {
  await using at = await rig({ authenticator });
  const issued = await fetch(`${at.url}/v1/tickets`, { method: 'POST', headers: as('ann') });
  expect(issued.status).toBe(201);
  expect(issued.headers.get('cache-control')).toBe('no-store');
  const { ticket } = (await issued.json()) as { ticket: string };
  expect((await fetch(`${at.url}/v1/clients?ticket=${ticket}`)).status).toBe(401);
  expect((await fetch(`${at.url}/v1/events?channel=user.ann&ticket=${ticket}`, { method: 'HEAD' })).status).toBe(401);
  const stream = await watch(`${at.url}/v1/events?channel=user.ann&ticket=${ticket}`);
  expect(stream.response.status).toBe(200);
  expect((await fetch(`${at.url}/v1/events?channel=user.ann&ticket=${ticket}`)).status).toBe(401);
  stream.leave();
  const { ticket: second } = (await (
    await fetch(`${at.url}/v1/tickets`, { method: 'POST', headers: as('ann') })
  ).json()) as { ticket: string };
  expect((await fetch(`${at.url}/v1/events?channel=user.bob&ticket=${second}`)).status).toBe(403);
});

test("a cookie opens streams for the gateway's own pages only", async () => {
  await using at = await rig({ authenticator, allowedOrigins: ['https://app.example'] });
  const cookie = 'theme=dark; signalbox_token=ann';
  const own = await watch(`${at.url}/v1/events?channel=user.ann`, { headers: { cookie } });
  expect(own.response.status).toBe(200);
  own.leave();
  const url = `${at.url}/v1/events?channel=user.ann`;
  expect((await fetch(url, { headers: { cookie, origin: 'https://app.example' } })).status).toBe(401);
  expect((await fetch(`${at.url}/v1/clients`, { headers: { cookie } })).status).toBe(401);
  const post = await fetch(`${at.url}/v1/tickets`, { method: 'POST', headers: { cookie } });
  expect(post.status).toBe(401);
  await eventually(() => expect(at.gateway.openStreams).toBe(0));
});

test.each([['Basic YTpi'], ['Bearer'], ['Bearer a b'], ['bearer:ann']])(
  'the header "%s" is no bearer token',
  async (authorization) => {
    await using at = await rig({ authenticator });
    const response = await fetch(`${at.url}/v1/clients`, { headers: { authorization } });
    expect(response.status).toBe(401);
    expect(await response.text()).not.toContain('YTpi');
  },
);
