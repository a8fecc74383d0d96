import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ensureSecret, mintToken, type Scope } from '../../src/auth/index.ts';
import { type CommandContext, connectDevice } from '../../src/device/index.ts';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import { type ServeOptions, type SignalboxServer, serve } from '../../src/server/index.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { WsClient } from '../gateway/ws-client.ts';
import { RedisServer, until } from '../support/redis.ts';
import { configOf, FrontProxy, type ProxyName, proxyProgram } from './proxies.ts';

// The proxies' configurations of docs/deploy.md, word for word, in front of three nodes.

const bytes = { type: 'test.Do', encode: (value: Uint8Array) => value, decode: (value: Uint8Array) => value };
const answer = (value: Uint8Array) => value;

for (const name of ['nginx', 'envoy'] as const)
  if (proxyProgram(name)) describe(`behind ${name}`, () => behind(name));
  else describe.skip(`behind ${name} (skipped: no ${name})`, () => behind(name));

function behind(name: ProxyName): void {
  let folder: string;
  let redis: RedisServer;
  const nodes: SignalboxServer[] = [];
  const facts: { kind: string; clientId?: string; resumed?: boolean }[] = [];
  let proxy: FrontProxy;
  let token: string;
  let mint: (subject: string, ...scopes: Scope[]) => Promise<string>;

  const node = async (id: string, more: ServeOptions = {}): Promise<SignalboxServer> =>
    serve(
      {
        ...{ node: id, redis: redis.url, grpc: '127.0.0.1:0', http: '127.0.0.1:0', logLevel: 'silent' },
        ...{ auth: 'jwt', authSecretFile: path.join(folder, 'jwt.secret'), hosts: ['hub.example.com'] },
        ...{ ping: 'interval', heartbeatMs: 300, livenessMs: 5000, sseKeepaliveMs: 300, streamsPerUser: 1000 },
        ...{ drainTimeoutMs: 2000, drainReconnectAfterMs: 0, drainSpreadMs: 0 },
        ...more,
      },
      { sources: { env: {}, cwd: folder }, observe: (fact) => facts.push(fact as (typeof facts)[0]) },
    );

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'signalbox-proxy-'));
    redis = await RedisServer.start();
    const secret = await ensureSecret(folder);
    const says = { secret, issuer: 'signalbox', audience: 'signalbox', ttlMs: 600_000 };
    mint = (subject, ...scopes) => mintToken({ subject, scopes, ...says });
    token = await mint('ann', 'commands:send', 'events:read', 'clients:read');
    for (const id of ['a', 'b', 'c']) nodes.push(await node(id));
    proxy = await FrontProxy.start(name, upstreams());
  });
  afterAll(async () => {
    await proxy?.close();
    for (const each of nodes) await each.close();
    await redis?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const upstreams = () => nodes.map(({ grpc, http }) => ({ grpc: grpc[0]!, http: http[0]! }));
  const bearer = () => ({ authorization: `Bearer ${token}` });

  async function device(clientId: string, to = proxy) {
    const own = await mint(clientId, 'device');
    const one = await connectDevice({ ...to.grpc, clientId, token: own, backoff: { minMs: 10, maxMs: 200 } });
    onTestFinished(() => one.close({ timeoutMs: 0 }));
    return one;
  }
  function caller(to = proxy) {
    const road = grpcTransport({ ...to.grpc, token });
    onTestFinished(() => road.close());
    return road;
  }
  function services() {
    const clients = hubClients({ ...proxy.grpc, token });
    onTestFinished(() => clients.close());
    return clients;
  }

  test('devices and callers find each other, whatever nodes they came to', async () => {
    const pumps = await Promise.all([1, 2, 3, 4, 5, 6].map((i) => device(`pump-${i}`)));
    for (const pump of pumps) pump.handle(bytes, answer, { result: bytes });
    const value = Buffer.from('how are you');
    const sent = pumps.map((_, i) =>
      collect(caller().send(testCommand({ clientId: `pump-${i + 1}`, payload: { type: 'test.Do', value } }))),
    );
    for (const updates of await Promise.all(sent))
      expect(updates.at(-1)).toMatchObject({ state: 'succeeded', result: { value: new Uint8Array(value) } });
    expect(nodes.filter(({ hub }) => hub.load.sessions > 0).length).toBeGreaterThan(1);
  });

  test('an error comes as it is, with what the trailers tell', async () => {
    await expect(collect(caller().send(testCommand({ clientId: 'nobody' })))).rejects.toMatchObject({
      code: 'client-offline',
      message: expect.stringContaining('nobody'),
    });
    await expect(services().clients.getClient({ clientId: 'nobody' })).rejects.toMatchObject({ code: 'not-found' });
  });

  test('health is answered, by the same port', async () => {
    expect(await services().health.check({ service: '' })).toMatchObject({ status: 1 });
    const { response } = await proxy.fetch('/ready');
    expect(response.status).toBe(200);
  });

  test('progress is told while the command runs', async () => {
    const pump = await device('slow-1');
    let go = (): void => undefined;
    pump.handle(bytes, async (value, { progress }: CommandContext) => {
      progress({ fraction: 0.5, note: 'half way' });
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      return answer(value);
    });
    const states: string[] = [];
    for await (const { state } of caller().send(testCommand({ clientId: 'slow-1' }))) {
      states.push(state);
      if (state === 'progress') go();
    }
    expect(states.slice(-2)).toEqual(['progress', 'succeeded']);
  });

  test('a stream may carry more than any limit of bodies', async () => {
    const pump = await device('much-1');
    pump.handle(bytes, answer, { result: bytes });
    const road = caller();
    const value = Buffer.alloc(200_000, 'x');
    for (let i = 0; i < 20; i++) {
      const updates = await collect(
        road.send(testCommand({ clientId: 'much-1', payload: { type: 'test.Do', value } })),
      );
      expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
    }
    expect(facts.filter(({ kind, clientId }) => kind === 'session-opened' && clientId === 'much-1')).toHaveLength(1);
  });

  test('thousands of calls go over one connection', async () => {
    const pump = await device('many-1');
    pump.handle(bytes, answer, { result: bytes });
    const road = caller();
    for (let round = 0; round < 15; round++) {
      const sent = Array.from({ length: 200 }, () => collect(road.send(testCommand({ clientId: 'many-1' }))));
      for (const updates of await Promise.all(sent)) expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
    }
  });

  test('who gives up is heard at the device', async () => {
    const pump = await device('held-1');
    const begun = Promise.withResolvers<void>();
    const stopped = Promise.withResolvers<void>();
    pump.handle(bytes, async (value, { signal }: CommandContext) => {
      signal.addEventListener('abort', () => stopped.resolve());
      begun.resolve();
      await stopped.promise;
      return answer(value);
    });
    const leaving = new AbortController();
    const sent = collect(caller().send(testCommand({ clientId: 'held-1' }), { signal: leaving.signal }));
    sent.catch(() => undefined);
    await begun.promise;
    leaving.abort();
    await stopped.promise;
  });

  test('a device that goes is offline', async () => {
    const pump = await device('gone-1');
    const known = () => nodes.some(({ hub }) => hub.clients.get('default', 'gone-1')?.connected);
    expect(known()).toBe(true);
    await pump.close();
    await until(() => !known());
  });

  test.each([
    ['as the docs have it', configOf(name)],
    ['by the header alone', configOf(name).replaceAll('proxy_buffering off;', '')],
  ])('events come as they happen, %s; who leaves gives the place back', async (_, text) => {
    const near = await FrontProxy.start(name, upstreams(), text);
    onTestFinished(() => near.close());
    const reader = await near.watch('/v1/events?channel=client.seen-1', bearer());
    expect(reader.response.status).toBe(200);
    expect(reader.response.headers.get('content-type')).toContain('text/event-stream');
    expect(reader.response.headers.get('cache-control')).toBe('no-store, no-transform');
    const pump = await device('seen-1', near);
    for (let celsius = 70; celsius < 73; celsius++) {
      await pump.emit('temperature', { celsius });
      let event = await reader.event();
      while (event.name !== 'temperature') event = await reader.event();
      expect(JSON.parse(event.data)).toMatchObject({ data: { celsius } });
    }
    const { leases } = nodes[0]!;
    expect(await leases!.count('ann')).toBe(1);
    reader.leave();
    await until(async () => (await leases!.count('ann')) === 0);
  });

  test('a WebSocket brings the same, pings and pongs pass, and leaving is heard', async () => {
    const headers = { ...bearer(), host: 'hub.example.com' };
    const socket = await WsClient.open(`https://127.0.0.1:${proxy.port}/v1/ws?channel=client.seen-2`, headers);
    socket.send(9, Buffer.from('are you there'));
    const pump = await device('seen-2');
    await pump.emit('temperature', { celsius: 71 });
    let message = await socket.next();
    while (message && message.event !== 'temperature') message = await socket.next();
    expect(message).toMatchObject({ event: 'temperature' });
    expect(socket.pongs).toEqual(['are you there']);
    const { leases } = nodes[0]!;
    socket.leave();
    await until(async () => (await leases!.count('ann')) === 0);
  });

  test("the page's own requests are not foreign, others are", async () => {
    const pump = await device('asked-1');
    pump.handle(bytes, answer, { result: bytes });
    const send = (origin: string) =>
      proxy.fetch('/v1/clients/asked-1/commands', {
        ...{ method: 'POST', body: JSON.stringify({ type: 'test.Do', payloadBase64: '', wait: 'result' }) },
        headers: { ...bearer(), origin, 'content-type': 'application/json' },
      });
    expect(await (await send('https://hub.example.com')).response.text()).toContain('succeeded');
    expect((await send('https://evil.example.com')).response.status).toBe(403);
  });

  test("silence longer than the proxy's timeouts does no harm: hub and gateway say something", async () => {
    const text = configOf(name)
      .replaceAll(/(_timeout) 1h;/g, '$1 1s;')
      .replaceAll('idle_timeout: 3600s', 'idle_timeout: 1s');
    expect(text).not.toBe(configOf(name));
    const near = await FrontProxy.start(name, upstreams(), text);
    onTestFinished(() => near.close());
    const pump = await device('idle-1', near);
    const begun = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    pump.handle(bytes, async (value) => {
      begun.resolve();
      await go.promise;
      return answer(value);
    });
    const reader = await near.watch('/v1/events?channel=client.other', bearer());
    const headers = { ...bearer(), host: 'hub.example.com' };
    const socket = await WsClient.open(`https://127.0.0.1:${near.port}/v1/ws?channel=client.other`, headers);
    const sent = collect(caller(near).send(testCommand({ clientId: 'idle-1', timeoutMs: 60_000 })));
    await begun.promise;
    // Each comment is 300 ms of silence.
    for (let comments = 0; comments < 10; ) comments += (await reader.next())!.comments.length;
    go.resolve();
    expect((await sent).at(-1)).toMatchObject({ state: 'succeeded' });
    expect(socket.closeCode).toBeUndefined();
    expect(facts.filter(({ kind, clientId }) => kind === 'session-opened' && clientId === 'idle-1')).toHaveLength(1);
    reader.leave();
    socket.leave();
  });

  test('a node that drains sends its devices to the others, and no command is lost', async () => {
    const extra = await node('d');
    const both = [extra, nodes[0]!].map(({ grpc, http }) => ({ grpc: grpc[0]!, http: http[0]! }));
    const near = await FrontProxy.start(name, [...both, both[1]!]);
    onTestFinished(async () => {
      await near.close();
      await extra.close();
    });
    const pumps = await Promise.all(Array.from({ length: 8 }, (_, i) => device(`moved-${i}`, near)));
    for (const pump of pumps) pump.handle(bytes, answer, { result: bytes });
    expect(extra.hub.load.sessions).toBeGreaterThan(0);
    const road = caller(near);
    let isOver = false;
    const states: (string | undefined)[] = [];
    const going = pumps.map(async (_, i) => {
      while (!isOver) {
        const command = testCommand({ clientId: `moved-${i}`, waitForConnectMs: 10_000, idempotent: true });
        states.push((await collect(road.send(command))).at(-1)?.state);
      }
    });
    await until(() => states.length > 20);
    await extra.close();
    await until(() => nodes[0]!.hub.load.sessions >= 8);
    isOver = true;
    await Promise.all(going);
    expect(states.filter((state) => state !== 'succeeded')).toEqual([]);
    expect(states.length).toBeGreaterThan(20);
  });
}
