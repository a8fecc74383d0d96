import { tmpdir } from 'node:os';
import { expect, onTestFinished, test } from 'vitest';
import { loadOptions, serve } from '../../src/server/index.ts';
import { awsCredentials, awsRegion } from '../../src/server/load-options.ts';
import { fakeOpenSearch } from '../opensearch/fake-opensearch.ts';

test('with OpenSearch, durable events go into it, and /v1/archive asks it', async () => {
  const search = await fakeOpenSearch();
  onTestFinished(() => search.close());
  const [host, port] = new URL(search.node).host.split(':') as [string, string];
  const env = { OPENSEARCH_HOST: host, OPENSEARCH_PORT: port, OPENSEARCH_USERNAME: 'ann', OPENSEARCH_PASSWORD: 'pw' };
  const addresses = { grpc: false, http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' } as const;
  const server = await serve(addresses, { sources: { env, cwd: tmpdir() } });
  onTestFinished(() => server.close());
  await server.log.append('default/news.one', { type: 'note', atMs: 1000, data: { text: 'kept' }, durable: true });
  await expect.poll(() => search.docs.size).toBe(1);
  const answer = await (await fetch(`${server.http[0]}/v1/archive?channel=news.*&text=KEPT`)).json();
  expect(answer).toEqual({
    events: [{ channel: 'news.one', type: 'note', at: '1970-01-01T00:00:01.000Z', data: { text: 'kept' } }],
  });
  const page = await server.archive!.query({ tenant: 'default', types: ['note'], limit: 10 });
  expect(page).toMatchObject({
    events: [{ channel: 'news.one', atMs: 1000, data: '{"text":"kept"}' }],
    next: undefined,
  });
  expect(search.requests.at(-1)!.authorization).toBe('Basic YW5uOnB3');
});

test('the variables of other programs say where OpenSearch is, and how to get in', async () => {
  const load = (env: Record<string, string>) =>
    loadOptions({ env: { OPENSEARCH_HOST: 'search', ...env }, cwd: tmpdir() });
  expect(await load({})).toMatchObject({ opensearch: 'http://search:9200', opensearchAuth: 'none' });
  expect(await load({ OPENSEARCH_USE_SSL: 'true', OPENSEARCH_PORT: '443', OPENSEARCH_AUTH_TYPE: 'aws' })).toMatchObject(
    {
      opensearch: 'https://search:443',
      opensearchAuth: 'aws',
    },
  );
  expect(
    await load({ OPENSEARCH_AUTH_TYPE: 'basic', OPENSEARCH_USERNAME: 'ann', OPENSEARCH_PASSWORD: 'pw' }),
  ).toMatchObject({ opensearchAuth: 'basic', opensearchUsername: 'ann', opensearchPassword: 'pw' });
  await expect(load({ OPENSEARCH_AUTH_TYPE: 'kerberos' })).rejects.toThrow(
    'the OPENSEARCH_* variables: opensearchAuth',
  );
  await expect(load({ OPENSEARCH_AUTH_TYPE: 'basic' })).rejects.toThrow('needs opensearchUsername');
});

test('AWS is signed for with its usual variables, and a missing one is named', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'AKID', AWS_SECRET_ACCESS_KEY: 'secret', AWS_SESSION_TOKEN: 'session' };
  expect(await awsCredentials(env)).toEqual({
    accessKeyId: 'AKID',
    secretAccessKey: 'secret',
    sessionToken: 'session',
  });
  await expect(awsCredentials({ AWS_ACCESS_KEY_ID: 'AKID' })).rejects.toThrow('AWS_SECRET_ACCESS_KEY');
  expect([
    awsRegion({ AWS_REGION: 'eu-north-1' }),
    awsRegion({ AWS_DEFAULT_REGION: 'eu-west-1' }),
    awsRegion({}),
  ]).toEqual(['eu-north-1', 'eu-west-1', 'us-east-1']);
});
