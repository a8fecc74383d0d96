import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ensureSecret, mintToken } from '../../src/auth/index.ts';
import { commandClient } from '../../src/commands/index.ts';
import { connectDevice } from '../../src/device/index.ts';
import { PumpServiceDefinition, simulatedPump } from '../../src/example/index.ts';
import { hubClients } from '../../src/grpc/index.ts';
import { type ServeOptions, type SignalboxServer, serve } from '../../src/server/index.ts';
import { Parts } from '../../src/server/parts.ts';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'signalbox-serve-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function open(options: ServeOptions = {}, heard?: (kind: string) => void): Promise<SignalboxServer> {
  const server = await serve(
    {
      grpc: '127.0.0.1:0',
      http: '127.0.0.1:0',
      data: ':memory:',
      preset: 'test',
      drainTimeoutMs: 500,
      drainReconnectAfterMs: 0,
      drainSpreadMs: 0,
      ...options,
    },
    { sources: { env: {}, cwd: tmpdir() }, observe: ({ kind }) => heard?.(kind) },
  );
  onTestFinished(() => server.close());
  return server;
}

test('one process: a device connects, a caller in it commands, and HTTP tells', async () => {
  const server = await open();
  await using device = await connectDevice({ address: server.grpc[0]!, clientId: 'pump-1' });
  device.implement(PumpServiceDefinition, simulatedPump({ rampMs: 1, temperatureEveryMs: 0 }).service);
  await using pump = commandClient(PumpServiceDefinition, { clientId: 'pump-1', transport: server.hub });
  expect(await pump.start({ rpm: 1200 })).toEqual({ rpm: 1200 });

  const http = server.http[0]!;
  const get = async (path: string) => (await fetch(`${http}${path}`)).text();
  expect(await get('/v1/clients')).toContain('"pump-1"');
  expect(await get('/metrics')).toContain('signalbox_commands_ended_total{kind="live",state="succeeded"} 1');
  expect(await get('/metrics')).toContain('signalbox_sessions 1');
  expect((await fetch(`${http}/ready`)).status).toBe(200);
});

test('a drained server is not ready, refuses commands with unavailable, and closes twice', async () => {
  const server = await open();
  const http = server.http[0]!;
  const draining = server.drain();
  const refused = commandClient(PumpServiceDefinition, { clientId: 'pump-1', transport: server.hub });
  await expect(refused.stop({})).rejects.toMatchObject({ code: 'unavailable' });
  expect((await fetch(`${http}/ready`)).status).toBe(503);
  await draining;
  await Promise.all([server.close(), server.close()]);
  await expect(fetch(`${http}/ready`)).rejects.toThrow();
});

test.each(['0.0.0.0:0', '[::]:0', '10.1.2.3:0', 'does-not-resolve.invalid:0'])(
  '%s without authentication is refused, and how to change that is said',
  async (address) => {
    for (const options of [{ grpc: address }, { http: address }])
      await expect(open(options)).rejects.toThrow(
        new RegExp(`^${address.replaceAll(/[[\].]/g, '\\$&')} can be reached from other machines.*--auth jwt.*mtls`),
      );
  },
);

test('a server on loopback without tokens says so', async () => {
  const kinds: string[] = [];
  await open({}, (kind) => kinds.push(kind));
  expect(kinds).toContain('server-open');
  expect(kinds.at(-1)).toBe('server-ready');
});

test('with tokens, a secret is made once for its owner alone, and nobody comes in without one', async () => {
  const data = folder();
  const server = await open({ auth: 'jwt', data });
  expect(statSync(join(data, 'jwt.secret')).mode & 0o777).toBe(0o600);
  const secret = await ensureSecret(data);
  await using stranger = hubClients({ address: server.grpc[0]! });
  await expect(stranger.clients.listClients({})).rejects.toMatchObject({ code: 'unauthenticated' });
  const token = await mintToken({
    secret,
    issuer: 'signalbox',
    audience: 'signalbox',
    subject: 'ops',
    scopes: ['clients:read'],
    ttlMs: 60_000,
  });
  await using ops = hubClients({ address: server.grpc[0]!, token });
  expect(await ops.clients.listClients({})).toEqual({ clients: [] });
  expect((await fetch(`${server.http[0]!}/v1/clients`)).status).toBe(401);
  await server.close();
  await open({ auth: 'jwt', data });
  expect(await ensureSecret(data)).toBe(secret);
});

test('one connection more than `maxConnections` is closed, and the others stay', async () => {
  const server = await serve(
    { grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'silent', maxConnections: 1 },
    { sources: { env: {}, cwd: '/' } },
  );
  onTestFinished(() => server.close());
  await using device = await connectDevice({ address: server.grpc[0]!, clientId: 'pump-1' });
  const one = connect(Number(server.grpc[0]!.split(':')[1]), '127.0.0.1');
  await once(one, 'close');
  expect(device.state.kind).toBe('connected');
});

test('a port in use is named, and what was opened by then is closed again', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };
  const data = folder();
  for (const options of [{ grpc: `127.0.0.1:${port}` }, { http: `127.0.0.1:${port}` }])
    await expect(open({ data, ...options })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
  // Were the store still open, this one would find its directory in use.
  await open({ data });
});

test('a data directory serves one process at a time', async () => {
  const data = folder();
  await open({ data });
  await expect(open({ data })).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining(data) });
});

test('parts are closed in reverse, and one that fails does not keep the others open', async () => {
  const told: string[] = [];
  const parts = new Parts((fact) => told.push(fact.kind));
  const closed: string[] = [];
  parts.add('first', 1, () => closed.push('first'));
  parts.add('second', 2, () => {
    throw new Error('stuck');
  });
  parts.add('third', 3, () => closed.push('third'));
  await expect(parts.close()).rejects.toThrow('closing second failed: stuck');
  expect(closed).toEqual(['third', 'first']);
  expect(told).toEqual(['server-close-failed']);
  await parts.close();
});
