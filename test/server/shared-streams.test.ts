import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ensureSecret, mintToken } from '../../src/auth/index.ts';
import { connectDevice } from '../../src/device/index.ts';
import { type ServeOptions, serve } from '../../src/server/index.ts';
import { watch } from '../gateway/support.ts';
import { eventually } from '../support/eventually.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';

/** Some nodes over a Redis of their own. */
async function openNodes(count: number, options: ServeOptions = {}) {
  const redis = await RedisServer.start();
  onTestFinished(() => redis.close());
  const nodes = [];
  for (let i = 1; i <= count; i++) {
    const node = await serve(
      {
        grpc: '127.0.0.1:0',
        http: '127.0.0.1:0',
        preset: 'test',
        redis: redis.url,
        node: `node-${i}`,
        drainTimeoutMs: 500,
        drainReconnectAfterMs: 0,
        drainSpreadMs: 0,
        ...options,
      },
      { sources: { env: {}, cwd: tmpdir() } },
    );
    onTestFinished(() => node.close());
    nodes.push(node);
  }
  return nodes;
}

describeNeeding('redis', 'event streams of several nodes', () => {
  test('a command at one node is watched at another, from its first step to its last', async () => {
    const [a, b] = (await openNodes(2)) as [Awaited<ReturnType<typeof serve>>, Awaited<ReturnType<typeof serve>>];
    await using device = await connectDevice({ address: a.grpc[0]!, clientId: 'pump-1' });
    const go = Promise.withResolvers<void>();
    const codec = { type: 'test.Slow', encode: () => new Uint8Array(), decode: () => undefined };
    device.handle(codec, async (_, { progress }) => {
      progress({ fraction: 0.5, note: 'half way' });
      await go.promise;
      return { type: 'test.Done', value: new Uint8Array() };
    });
    const sent = await fetch(`${a.http[0]}/v1/clients/pump-1/commands`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ type: 'test.Slow', payloadBase64: '', wait: 'delivered' }),
    });
    const { commandId } = (await sent.json()) as { commandId: string };
    // Once the nodes know of each other.
    await until(async () => (await fetch(`${b.http[0]}/v1/commands/${commandId}`)).ok);
    const reader = await watch(`${b.http[0]}/v1/commands/${commandId}/events`);
    expect(reader.response.status).toBe(200);
    const names: string[] = [];
    while (!names.includes('command.progress')) names.push((await reader.event()).name);
    go.resolve();
    names.push(...(await reader.rest()).filter(({ data }) => data !== '').map(({ name }) => name));
    // Steps that fall together may be left out.
    expect(names.filter((name) => name !== 'command.sent' && name !== 'command.started')).toEqual([
      'command.queued',
      'command.delivered',
      'command.progress',
      'command.succeeded',
    ]);
  });

  test('who comes and goes at one node is told at another', async () => {
    const [a, b] = (await openNodes(2)) as [Awaited<ReturnType<typeof serve>>, Awaited<ReturnType<typeof serve>>];
    const reader = await watch(`${b.http[0]}/v1/events?channel=fleet&channel=client.pump-1`);
    await reader.next();
    const device = await connectDevice({ address: a.grpc[0]!, clientId: 'pump-1' });
    await device.emit('temperature', { celsius: 71 });
    const seen: string[] = [];
    while (seen.length < 3) seen.push((await reader.event()).name);
    expect(seen.filter((name) => name !== 'hub.gap').sort()).toEqual([
      'client.connected',
      'client.connected',
      'temperature',
    ]);
    await device.close();
    reader.leave();
  });

  test('a user has only so many streams at all nodes together, and gets them back when a node is gone', async () => {
    const data = mkdtempSync(join(tmpdir(), 'signalbox-shared-'));
    onTestFinished(() => rmSync(data, { recursive: true, force: true }));
    const authSecretFile = join(data, 'jwt.secret');
    const secret = await ensureSecret(data);
    const says = { issuer: 'signalbox', audience: 'signalbox', ttlMs: 60_000 };
    const token = await mintToken({ secret, subject: 'ann', scopes: ['events:read'], ...says });
    const options: ServeOptions = { auth: 'jwt', authSecretFile, streamsPerUser: 2, streamLeaseMs: 1000 };
    const [a, b] = (await openNodes(2, options)) as [
      Awaited<ReturnType<typeof serve>>,
      Awaited<ReturnType<typeof serve>>,
    ];
    const open = (node: typeof a) =>
      watch(`${node.http[0]}/v1/events?channel=fleet`, { headers: { authorization: `Bearer ${token}` } });
    const first = await open(a);
    const second = await open(b);
    const third = await open(b);
    expect([first, second, third].map(({ response }) => response.status)).toEqual([200, 200, 429]);
    expect(third.response.headers.get('retry-after')).toBe('1');
    expect((await b.leases!.list('ann')).map(({ id }) => id.split(':')[0]).sort()).toEqual(['node-1', 'node-2']);
    // Refreshed for as long as it is open.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const fourth = await open(a);
    expect(fourth.response.status).toBe(429);
    first.leave();
    await until(async () => (await b.leases!.count('ann')) === 1);
    const next = await open(b);
    expect(next.response.status).toBe(200);
    for (const reader of [second, third, fourth, next]) reader.leave();
    await eventually(async () => expect(await a.leases!.count('ann')).toBe(0));
  });
});
