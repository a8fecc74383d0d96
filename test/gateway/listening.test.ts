import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { raw, rig } from './support.ts';
import { WsClient } from './ws-client.ts';

let dir: string;
let tls: { cert: Buffer; key: Buffer };

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'gateway-'));
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const ask = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-days',
    '2',
    '-nodes',
    '-subj',
    '/CN=localhost',
  ];
  const alt = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...ask, ...alt, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  tls = { cert: readFileSync(cert), key: readFileSync(key) };
});
afterAll(() => rmSync(dir, { recursive: true }));

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  text: string;
  readonly ended: Promise<unknown>;
  leave(): void;
}

function ask2(session: ClientHttp2Session, headers: Record<string, string>, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: false });
    stream.once('error', reject);
    stream.once('response', (answered) => {
      const answer: Answer = {
        status: Number(answered[':status']),
        headers: answered as Record<string, unknown>,
        text: '',
        ended: once(stream, 'close'),
        leave: () => stream.close(8),
      };
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        answer.text += chunk;
      });
      resolve(answer);
    });
    if (headers[':method'] === 'POST') stream.end(body);
    else stream.end();
  });
}

test('with TLS it speaks HTTP/2: streams and requests share one connection', async () => {
  await using at = await rig({ tls });
  expect(at.url).toMatch(/^https:/);
  const session = connectHttp2(at.url, { ca: tls.cert });
  const clients = await ask2(session, { ':path': '/v1/clients' });
  await clients.ended;
  expect([clients.status, JSON.parse(clients.text).clients[0].id]).toEqual([200, 'pump-7']);
  const stream = await ask2(session, { ':path': '/v1/events?channel=client.pump-7&channel=fleet' });
  expect(stream.headers['content-type']).toBe('text/event-stream; charset=utf-8');
  at.append('client.pump-7', 'tick', 1);
  await eventually(() => expect(stream.text).toContain('event: tick'));
  const sent = await ask2(
    session,
    { ':path': '/v1/clients/pump-7/commands', ':method': 'POST', 'content-type': 'application/json' },
    '{"type":"t.T","payloadBase64":""}',
  );
  await sent.ended;
  expect([sent.status, JSON.parse(sent.text).state]).toEqual([200, 'succeeded']);
  await eventually(() => expect(stream.text).toContain('event: command.succeeded'));
  stream.leave();
  await eventually(() => expect(at.gateway.openStreams).toBe(0));
  session.close();
});

test('with TLS, HTTP/1.1 still works for those who cannot do better', async () => {
  await using at = await rig({ tls });
  const status = await new Promise((resolve, reject) => {
    const ask = httpsRequest(`${at.url}/health`, { ca: tls.cert }, (response) => {
      response.resume();
      resolve([response.httpVersion, response.statusCode]);
    });
    ask.once('error', reject).end();
  });
  expect(status).toEqual(['1.1', 200]);
});

test('HTTP/2: a foreign authority is refused, and so is a body that does not end', async () => {
  await using at = await rig({ tls, limits: { requestMs: 200 } });
  const session = connectHttp2(at.url, { ca: tls.cert });
  const foreign = await ask2(session, { ':path': '/v1/clients', ':authority': 'evil.example' });
  expect(foreign.status).toBe(421);
  const stream = session.request({ ':path': '/v1/tickets', ':method': 'POST', 'content-type': 'application/json' });
  stream.on('error', () => undefined);
  stream.write('{');
  await once(stream, 'close');
  expect((await ask2(session, { ':path': '/health' })).status).toBe(200);
  session.close();
});

test('HTTP/2: a stream that ends by drain ends cleanly, and the gateway closes', async () => {
  await using at = await rig({ tls });
  const session = connectHttp2(at.url, { ca: tls.cert });
  const stream = await ask2(session, { ':path': '/v1/events?channel=fleet' });
  await at.gateway.close({ timeoutMs: 2_000 });
  await stream.ended;
  expect(stream.text).toContain('event: hub.drain');
});

test('plain text and broken handshakes on the TLS port end themselves only', async () => {
  await using at = await rig({ tls });
  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    Buffer.from([22, 3, 1, 255, 255, 1, 2, 3]),
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ]) {
    const socket = connect(at.port, '127.0.0.1', () => socket.end(bytes));
    socket.on('error', () => undefined);
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
  }
  const session = connectHttp2(at.url, { ca: tls.cert });
  expect((await ask2(session, { ':path': '/health' })).status).toBe(200);
  session.close();
});

const overSocket = (socketPath: string, path: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    httpRequest({ socketPath, path, headers: { host: 'whatever' }, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
  });

test('a Unix socket serves beside TCP, takes the place of a dead one, and is removed at the end', async () => {
  const path = join(dir, 'gateway.sock');
  const addresses = [`unix://${path}`, '127.0.0.1:0'];
  // A process that is killed leaves its socket file behind.
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  expect(spawnSync(process.execPath, ['-e', script, path]).signal).toBe('SIGKILL');
  expect(existsSync(path)).toBe(true);
  {
    await using at = await rig({ addresses });
    expect(at.gateway.urls).toEqual([`unix://${path}`, expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/)]);
    expect(await overSocket(path, '/v1/clients')).toBe(200);
    await expect(rig({ addresses: [`unix://${path}`] })).rejects.toMatchObject({ code: 'unavailable' });
    expect(await overSocket(path, '/health')).toBe(200);
  }
  expect(existsSync(path)).toBe(false);
});

test('an address that is taken, or none, is told by name', async () => {
  await using at = await rig();
  await expect(rig({ addresses: [`127.0.0.1:${at.port}`] })).rejects.toThrow(`cannot listen on 127.0.0.1:${at.port}`);
  const missing = join(dir, 'missing');
  await expect(rig({ addresses: [`unix://${missing}/x.sock`] })).rejects.toThrow(`there is no directory ${missing}`);
  await expect(rig({ addresses: ['localhost'] })).rejects.toThrow('"localhost" is no address');
  await expect(rig({ addresses: [] })).rejects.toThrow('no address');
  await expect(rig({ limits: { streams: 0 } })).rejects.toThrow('streams is 0');
});

test('close waits for a running request, takes no new ones, and may be called twice', async () => {
  await using at = await rig();
  let answer = (): void => undefined;
  const asked = new Promise<void>((resolve) => {
    at.hub.list = () => {
      resolve();
      return new Promise((done) => {
        answer = () => done([]);
      });
    };
  });
  const running = fetch(`${at.url}/v1/commands`);
  await asked;
  const closed = Promise.all([at.gateway.close({ timeoutMs: 5_000 }), at.gateway.close()]);
  answer();
  expect((await running).status).toBe(200);
  await closed;
  await expect(fetch(`${at.url}/health`)).rejects.toThrow();
});

test('close cuts what does not end in time', async () => {
  await using at = await rig();
  at.hub.list = () => new Promise(() => undefined);
  const running = fetch(`${at.url}/v1/commands`).catch(() => 'cut');
  await eventually(async () => expect((await fetch(`${at.url}/health`)).status).toBe(200));
  await at.gateway.close({ timeoutMs: 50 });
  expect(await running).toBe('cut');
});

test('an answer that nobody reads is cut, over HTTP/1.1 and HTTP/2', async () => {
  const ended: string[] = [];
  for (const secure of [false, true]) {
    await using at = await rig({
      ...(secure ? { tls } : {}),
      limits: { requestMs: 300 },
      metrics: async () => ({ contentType: 'text/plain', body: 'x'.repeat(40_000_000) }),
      observe: (fact) => fact.kind === 'request-ended' && ended.push(`${fact.route} ${fact.isComplete}`),
    });
    const plain = secure ? undefined : connect(at.port, '127.0.0.1');
    plain?.on('error', () => undefined).pause();
    plain?.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const session = secure ? connectHttp2(at.url, { ca: tls.cert }) : undefined;
    const stream = session?.request({ ':path': '/metrics' });
    stream?.on('error', () => undefined).pause();
    await eventually(() => expect(ended).toEqual(secure ? ['/metrics false', '/metrics false'] : ['/metrics false']));
    plain?.destroy();
    session?.destroy();
  }
});

test('a WebSocket goes over TLS, too', async () => {
  await using at = await rig({ tls });
  const client = await WsClient.open(`${at.url}/v1/ws?channel=fleet`);
  expect(await client.next()).toMatchObject({ event: 'hub.open' });
  at.append('fleet', 'client.connected', 1);
  expect(await client.next()).toMatchObject({ event: 'client.connected' });
  client.leave();
});

test('who calls by the address itself is let in beside the named hosts: probes and scrapers do', async () => {
  await using at = await rig({ allowedHosts: ['hub.example.com'] });
  const status = async (host: string) =>
    Number(
      /^HTTP\/1.1 (\d+)/.exec(
        await raw(at.port, `GET /ready HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
      )![1],
    );
  expect(await status('hub.example.com')).toBe(200);
  expect(await status(`127.0.0.1:${at.port}`)).toBe(200);
  expect(await status('10.9.9.9')).toBe(421);
  expect(await status('127.0.0.1.evil.example')).toBe(421);
  expect(await status('localhost')).toBe(421);
});
