import { request } from 'node:http';
import { expect, test, vi } from 'vitest';
import type { Authenticator } from '../../src/auth/principal.ts';
import { HubError } from '../../src/errors.ts';
import type { GatewayFact } from '../../src/gateway/index.ts';
import { memoryLeaseStore, StreamLeases } from '../../src/leases/index.ts';
import { virtualClock } from '../../src/testing/index.ts';
import { eventually } from '../support/eventually.ts';
import { type Rig, rig, watch } from './support.ts';

/** The bearer is the subject; before an `@`, the tenant is behind it. */
const authenticator: Authenticator = {
  authenticate: async ({ bearer = 'anonymous' }) => {
    const [subject, tenant = 'default'] = bearer.split('@') as [string, string?];
    return { subject, tenant, scopes: new Set(['events:read', 'commands:send', 'clients:read']) };
  },
};
const as = (bearer: string) => ({ headers: { authorization: `Bearer ${bearer}` } });
const open = (at: Rig, bearer: string, path = '/v1/events?channel=fleet') => watch(at.url + path, as(bearer));

function leasesOf(limit: number) {
  const clock = virtualClock();
  const store = memoryLeaseStore({ clock });
  return { clock, store, leases: new StreamLeases({ store, clock, limit }) };
}

test('a user has only so many event streams, and is told how long to wait for a place', async () => {
  const { leases, clock } = leasesOf(2);
  await using at = await rig({ authenticator, leases });
  const readers = [await open(at, 'ann'), await open(at, 'ann', '/v1/clients/pump-7/events')];
  await clock.advance(20_500);
  const third = await open(at, 'ann');
  expect(third.response.status).toBe(429);
  expect(third.response.headers.get('content-type')).toMatch('application/problem+json');
  // The first lease ends 180 s after its beginning, if its gateway dies now.
  expect(third.response.headers.get('retry-after')).toBe('160');
  expect(JSON.parse((await third.rest()).map(({ data }) => data).join('') || '{}')).toEqual({});
  const problem = await (await fetch(`${at.url}/v1/events?channel=fleet`, as('ann'))).json();
  expect(problem).toMatchObject({
    code: 'stream-limit-exceeded',
    status: 429,
    retryAfterMs: 159_500,
    detail: '"ann" has 2 streams open, the limit is 2',
  });
  for (const other of ['bob', 'ann@acme']) {
    readers.push(await open(at, other));
    expect(readers.at(-1)!.response.status).toBe(200);
  }
  readers[0]!.leave();
  await eventually(async () => expect(await leases.count('ann')).toBe(1));
  readers.push(await open(at, 'ann'));
  expect(readers.at(-1)!.response.status).toBe(200);
  for (const reader of readers) reader.leave();
  await eventually(async () => expect(await leases.count('ann')).toBe(0));
});

test('the limit holds over all gateways that share a store', async () => {
  const { store } = leasesOf(1);
  const [a, b] = [new StreamLeases({ store, limit: 1 }), new StreamLeases({ store, limit: 1 })];
  await using here = await rig({ authenticator, leases: a });
  await using there = await rig({ authenticator, leases: b });
  const reader = await open(here, 'ann');
  expect((await open(there, 'ann')).response.status).toBe(429);
  reader.leave();
  await eventually(async () => expect(await b.count('ann')).toBe(0));
  const next = await open(there, 'ann');
  expect(next.response.status).toBe(200);
  next.leave();
});

test('what opens no stream takes no lease: HEAD, a foreign page, a foreign name, a bad request, a stream at its end', async () => {
  const { leases } = leasesOf(1);
  const acquire = vi.spyOn(leases, 'acquire');
  await using at = await rig({ authenticator, leases });
  const url = `${at.url}/v1/events?channel=fleet`;
  expect((await fetch(url, { ...as('ann'), method: 'HEAD' })).status).toBe(200);
  expect((await fetch(url, { headers: { ...as('ann').headers, origin: 'https://evil.example' } })).status).toBe(403);
  const rebound = await new Promise((resolve, reject) => {
    const asked = request(url, { headers: { ...as('ann').headers, host: 'evil.example' } }, ({ statusCode }) =>
      resolve(statusCode),
    );
    asked.once('error', reject).end();
  });
  expect(rebound).toBe(421);
  expect((await fetch(`${url}&channel=a%20b`, as('ann'))).status).toBe(400);
  expect((await fetch(`${at.url}/v1/commands/none/events`, as('ann'))).status).toBe(404);
  expect(acquire).not.toHaveBeenCalled();

  const sent = await fetch(`${at.url}/v1/clients/pump-7/commands`, {
    method: 'POST',
    headers: { ...as('ann').headers, 'content-type': 'application/json' },
    body: JSON.stringify({ type: 't.T', payloadBase64: '' }),
  });
  const { commandId } = (await sent.json()) as { commandId: string };
  const reader = await open(at, 'ann', `/v1/commands/${commandId}/events`);
  const last = (await reader.rest()).at(-1)!.id;
  await eventually(async () => expect(await leases.count('ann')).toBe(0));
  acquire.mockClear();
  const ended = await fetch(`${at.url}/v1/commands/${commandId}/events?last_event_id=${last}`, as('ann'));
  expect(ended.status).toBe(204);
  expect(acquire).not.toHaveBeenCalled();
});

test('nobody owns "anonymous": its streams have no such limit', async () => {
  const { leases } = leasesOf(1);
  await using at = await rig({ leases });
  const readers = [await watch(`${at.url}/v1/events?channel=fleet`), await watch(`${at.url}/v1/events?channel=fleet`)];
  expect(readers.map(({ response }) => response.status)).toEqual([200, 200]);
  for (const reader of readers) reader.leave();
});

test('a command whose stream would be one too many is not sent', async () => {
  const { leases } = leasesOf(1);
  await using at = await rig({ authenticator, leases });
  const send = (bearer: string) =>
    watch(`${at.url}/v1/clients/pump-7/commands`, {
      method: 'POST',
      headers: { ...as(bearer).headers, 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ type: 't.T', payloadBase64: '' }),
    });
  const reader = await open(at, 'ann');
  expect((await send('ann')).response.status).toBe(429);
  expect(at.hub.sent).toEqual([]);
  reader.leave();
  await eventually(async () => expect(await leases.count('ann')).toBe(0));
  const updates = (await (await send('ann')).rest()).map(({ name }) => name);
  expect(updates).toContain('command.succeeded');
  await eventually(async () => expect(await leases.count('ann')).toBe(0));
  // A command that is refused gives its place back, too.
  at.hub.script = async function* () {
    yield* [];
    throw new HubError('mailbox-full', 'no room');
  };
  expect((await send('ann')).response.status).toBe(429);
  expect(await leases.count('ann')).toBe(0);
});

test('a stream whose lease is lost says so and ends', async () => {
  const { leases, store, clock } = leasesOf(1);
  const facts: GatewayFact[] = [];
  await using at = await rig({ authenticator, leases, observe: (fact) => void facts.push(fact) });
  const reader = await open(at, 'ann');
  const [held] = await leases.list('ann');
  await store.release('default/ann', held!.id);
  await clock.advance(60_000);
  expect((await reader.rest()).at(-1)).toMatchObject({ name: 'hub.lease-lost', data: '{}' });
  await eventually(() =>
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'stream-closed', reason: 'lease-lost' })),
  );
});

test('where the leases cannot be asked, a stream is refused with 503, and open ones stay', async () => {
  const { clock, store } = leasesOf(5);
  let isAway = false;
  const through = <T>(call: () => Promise<T>) =>
    isAway ? Promise.reject(new HubError('unavailable', 'no Redis', { retryAfterMs: 1000 })) : call();
  const leases = new StreamLeases({
    clock,
    store: {
      acquire: (...args) => through(() => store.acquire(...args)),
      refresh: (...args) => through(() => store.refresh(...args)),
      release: (...args) => through(() => store.release(...args)),
      list: (...args) => through(() => store.list(...args)),
      close: () => store.close(),
    },
  });
  await using at = await rig({ authenticator, leases });
  const reader = await open(at, 'ann');
  await reader.next();
  isAway = true;
  const refused = await open(at, 'ann');
  expect([refused.response.status, refused.response.headers.get('retry-after')]).toEqual([503, '1']);
  await clock.advance(100_000);
  at.append('fleet', 'x', { n: 1 });
  expect((await reader.event()).name).toBe('x');
  isAway = false;
  reader.leave();
  await eventually(async () => expect(await leases.count('ann')).toBe(0));
});
