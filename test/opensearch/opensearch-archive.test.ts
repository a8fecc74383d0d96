import { createHash, createHmac } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import {
  type ArchiveFact,
  archivedLog,
  type OpenSearchArchiveOptions,
  openSearchArchive,
} from '../../src/opensearch/index.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { eventArchiveContract } from '../contracts/event-archive.ts';
import { fakeOpenSearch } from './fake-opensearch.ts';

eventArchiveContract('OpenSearch (its wire)', async () => {
  const server = await fakeOpenSearch();
  const archive = openSearchArchive({ node: server.node });
  const log = archivedLog(memoryEventLog(), archive);
  return {
    archive,
    log,
    settle: () => archive.flush(),
    async close() {
      await archive.close();
      await server.close();
    },
  };
});

async function open(options: Partial<OpenSearchArchiveOptions> = {}) {
  const server = await fakeOpenSearch();
  const facts: ArchiveFact[] = [];
  const archive = openSearchArchive({ node: server.node, observe: (fact) => facts.push(fact), ...options });
  onTestFinished(async () => {
    await archive.close();
    await server.close();
  });
  const keep = (n: number, data = `${n}`) => archive.keep({ tenant: 't', channel: 'c', type: 'tick', atMs: n, data });
  return { server, archive, facts, keep };
}

test('template and policy come before the first event, which goes with others in one request', async () => {
  const { server, archive, keep } = await open({ keepDays: 7 });
  for (let i = 0; i < 1200; i++) keep(i);
  await archive.flush();
  expect(server.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
    'PUT /_index_template/stream_events',
    'PUT /_plugins/_ism/policies/stream_events',
    'POST /stream_events-events/_bulk',
    'POST /stream_events-events/_bulk',
    'POST /stream_events-events/_bulk',
  ]);
  const [template, policy] = server.requests.map(({ body }) => body);
  expect(JSON.parse(template!)).toMatchObject({
    index_patterns: ['stream_events-events'],
    data_stream: {},
    template: {
      mappings: { dynamic: false, properties: { '@timestamp': { type: 'date' }, channel: { type: 'keyword' } } },
    },
  });
  const { states, ism_template, default_state } = JSON.parse(policy!).policy;
  expect(default_state).toBe('kept');
  expect(states).toMatchObject([
    { name: 'kept', transitions: [{ state_name: 'over', conditions: { min_index_age: '7d' } }] },
    { name: 'over', actions: [{ delete: {} }] },
  ]);
  // Indexes of a data stream have names of their own.
  expect(ism_template[0].index_patterns).toEqual(['.ds-stream_events-events-*']);
  // A data stream takes nothing but `create`.
  expect(server.requests[2]!.body.split('\n')[0]).toMatch(/^\{"create":/);
  expect(server.docs.size).toBe(1200);
});

test('a policy that is there already is left as it is, and where there are no policies that is told once', async () => {
  for (const [status, told] of [
    [409, 0],
    [404, 1],
  ] as const) {
    const { server, archive, facts, keep } = await open();
    server.script.push({ status: 200 }, { status });
    keep(1);
    await archive.flush();
    keep(2);
    await archive.flush();
    expect(facts.filter(({ kind }) => kind === 'archive-failed')).toHaveLength(told);
    expect(server.docs.size).toBe(2);
  }
});

test('the signature for AWS is that of the request: method, path, body, time and session', async () => {
  const secretAccessKey = 'wJalrXUtnFEMI';
  const credentials = async () => ({ accessKeyId: 'AKID', secretAccessKey, sessionToken: 'session' });
  const { server, archive, keep } = await open({ auth: { kind: 'aws', region: 'eu-central-1', credentials } });
  keep(1);
  await archive.flush();
  await archive.query({ tenant: 't', limit: 1 });
  expect(server.requests).toHaveLength(4);
  for (const { method, path, body, headers } of server.requests) {
    const [, day, names, signature] =
      /Credential=AKID\/(\d{8})\/eu-central-1\/es\/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)/.exec(
        headers.authorization!,
      )!;
    expect(names!.split(';')).toEqual(expect.arrayContaining(['host', 'x-amz-date', 'x-amz-security-token']));
    expect(headers['x-amz-security-token']).toBe('session');
    const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
    const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest();
    const signed = names!.split(';').map((name) => `${name}:${String(headers[name]).trim()}\n`);
    const canonical = [method, path, '', signed.join(''), names, sha256(body)].join('\n');
    const time = String(headers['x-amz-date']);
    const what = ['AWS4-HMAC-SHA256', time, `${day}/eu-central-1/es/aws4_request`, sha256(canonical)].join('\n');
    const key = ['eu-central-1', 'es', 'aws4_request'].reduce(hmac, hmac(`AWS4${secretAccessKey}`, day!));
    expect(hmac(key, what).toString('hex')).toBe(signature);
  }
});

test('what a lost answer hides is sent again, and kept once', async () => {
  const { server, archive, facts, keep } = await open();
  keep(0);
  await archive.flush();
  // It was done, and nobody was told.
  const { requests } = server;
  keep(1);
  keep(2);
  server.script.push({ status: 503 }, { status: 429, body: { error: 'busy' } });
  await archive.flush();
  expect(facts.map(({ kind }) => kind)).toEqual(['archive-failed', 'archive-failed']);
  const [, , , first, second, third] = requests.map(({ body }) => body);
  expect([second, third]).toEqual([first, first]);
  expect(server.docs.size).toBe(3);
});

test('a request of which a part was too much is sent again, and what was kept the first time is not told as refused', async () => {
  const { server, archive, facts, keep } = await open();
  keep(0);
  await archive.flush();
  const items = [{ create: { status: 201 } }, { create: { status: 429, error: { reason: 'queue is full' } } }];
  server.script.push({ status: 200, body: { errors: true, items } });
  const again = [{ create: { status: 409, error: { reason: 'is there' } } }, { create: { status: 201 } }];
  server.script.push({ status: 200, body: { errors: true, items: again } });
  keep(1);
  keep(2);
  await archive.flush();
  const [first, second] = server.requests.filter(({ path }) => path.endsWith('/_bulk')).slice(-2);
  expect(second!.body).toBe(first!.body);
  expect(facts.map(({ kind }) => kind)).toEqual(['archive-failed']);
});

test('beyond its limits it drops and says how many, and never waits', async () => {
  const { archive, facts, keep, server } = await open({ maxWaiting: 10 });
  for (let i = 0; i < 25; i++) keep(i);
  await archive.flush();
  expect(facts).toEqual([
    { kind: 'archive-dropped', count: 15, reason: expect.stringContaining('too many events wait') },
  ]);
  expect(server.docs.size).toBe(10);
});

test('an event of a time that no calendar has is kept, and throws at nobody', async () => {
  const { archive, keep, server } = await open();
  keep(8.64e15 + 1);
  await archive.flush();
  expect([...server.docs.values()]).toMatchObject([{ '@timestamp': '1970-01-01T00:00:00.000Z' }]);
});

test('closing waits for no OpenSearch that is away: what waits is tried once more, and told as lost', async () => {
  const clock = virtualClock();
  const { archive, facts, keep, server } = await open({ clock });
  keep(0);
  for (let i = 0; i < 3; i++) server.script.push({ status: 503 });
  const flushing = archive.flush();
  await expect.poll(() => facts.length).toBe(1);
  await archive.close(); // by a clock that stands still
  await flushing;
  expect(facts.slice(1)).toMatchObject([{ kind: 'archive-failed' }, { kind: 'archive-dropped', count: 1 }]);
});

test('what OpenSearch refuses for good is told, and holds up nothing', async () => {
  const { archive, facts, keep, server } = await open();
  keep(0);
  await archive.flush();
  const items = [{ create: { status: 400, error: { reason: 'mapper_parsing_exception' } } }];
  server.script.push({ status: 200, body: { errors: true, items } });
  keep(1);
  await archive.flush();
  keep(2);
  await archive.flush();
  expect(facts).toEqual([
    { kind: 'archive-dropped', count: 1, reason: 'OpenSearch refused them: mapper_parsing_exception' },
  ]);
  expect(server.docs.size).toBe(2);
});

test('it says who it is: not at all, by name and password, or signed for AWS', async () => {
  const credentials = async () => ({ accessKeyId: 'AKID', secretAccessKey: 'secret' });
  for (const [auth, pattern] of [
    [{ kind: 'none' }, /^undefined$/],
    [{ kind: 'basic', username: 'ann', password: 'pw' }, /^Basic YW5uOnB3$/],
    [
      { kind: 'aws', region: 'eu-central-1', credentials },
      /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/eu-central-1\/es\/aws4_request/,
    ],
  ] as const) {
    const { server, archive, keep } = await open({ auth });
    keep(1);
    await archive.flush();
    for (const { authorization } of server.requests) expect(String(authorization)).toMatch(pattern);
    expect(server.docs.size).toBe(1);
  }
});

test('nothing was kept yet: nothing is found; and one that is away is `unavailable`', async () => {
  const { archive, server } = await open();
  server.script.push({ status: 404, body: { error: { type: 'index_not_found_exception' } } });
  expect(await archive.query({ tenant: 't', limit: 1 })).toEqual({ events: [], next: undefined });
  server.script.push({ status: 500, body: {} });
  await expect(archive.query({ tenant: 't', limit: 1 })).rejects.toMatchObject({ code: 'unavailable' });
  expect(() => openSearchArchive({ node: server.node, indexPrefix: 'Bad' })).toThrow('index prefix "Bad"');
});
