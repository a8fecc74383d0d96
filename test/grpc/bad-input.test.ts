import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { connectDevice, type Device } from '../../src/device/index.ts';
import type { GrpcFact } from '../../src/grpc/facts.ts';
import { type GrpcTransport, grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { ListClientsRequest } from '../../src/protocol/gen/signalbox/v1/client.ts';
import { collect, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { connectPath, hello } from './harness.ts';

// One server for all: what one peer does wrong must not be felt by the next, nor by those that do well beside it.
const facts: GrpcFact[] = [];
let hub: Hub;
let server: GrpcServer;
let device: Device;
let caller: GrpcTransport;

beforeAll(async () => {
  hub = new Hub();
  server = await serveGrpc({
    hub,
    authenticator: openAuthenticator(),
    addresses: ['127.0.0.1:0'],
    limits: { firstFrameMs: 1_000, stallMs: 500, maxMessageBytes: 64 * 1024 },
    observe: (fact) => facts.push(fact),
  });
  device = await connectDevice({ address: server.addresses[0]!, clientId: 'pump-7' });
  device.handle({ type: 'test.Do', encode: () => new Uint8Array(), decode: () => 0 }, async () => undefined);
  caller = grpcTransport({ address: server.addresses[0]! });
  await healthy();
});
afterEach(async () => {
  await healthy();
  // The healthy device and the healthy caller are all that is left.
  await expect.poll(() => server.load, { timeout: 10_000 }).toEqual({ connections: 2, deviceStreams: 1 });
  expect(hub.load.sessions).toBe(1);
  expect(facts.filter((fact) => fact.kind === 'grpc-call-failed' && fact.code === 'internal')).toEqual([]);
});
afterAll(async () => {
  await caller.close();
  await device.close();
  await server.close({ timeoutMs: 0 });
  await hub.close();
});

async function healthy(): Promise<void> {
  expect((await collect(caller.send(testCommand()))).at(-1)?.state).toBe('succeeded');
}

function http2(): ClientHttp2Session {
  const session = connectHttp2(`http://${server.addresses[0]}`);
  session.on('error', () => undefined);
  onTestFinished(() => session.destroy());
  return session;
}

const listPath = '/signalbox.v1.ClientService/ListClients';
const watchPath = '/signalbox.v1.ClientService/WatchClients';
const head = (path: string, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders => ({
  ':method': 'POST',
  ':path': path,
  'content-type': 'application/grpc',
  te: 'trailers',
  ...more,
});

function message(body: Uint8Array, { flag = 0, length = body.length } = {}): Buffer {
  const frame = Buffer.alloc(5 + body.length);
  frame[0] = flag;
  frame.writeUInt32BE(length, 1);
  frame.set(body, 5);
  return frame;
}

/** The end of one request: its gRPC status, or how the stream was closed. */
async function answer(headers: OutgoingHttpHeaders, body: Buffer, options: { keepOpen?: boolean } = {}) {
  const session = http2();
  const stream = session.request(headers, { endStream: false });
  const seen: Record<string, unknown> = {};
  stream.on('response', (got) => Object.assign(seen, got));
  stream.on('trailers', (got) => Object.assign(seen, got));
  stream.on('error', (error: Error) => {
    seen.error = error.message;
  });
  stream.resume();
  if (options.keepOpen) stream.write(body);
  else stream.end(body);
  // The server's half is over; where the peer keeps its own half open, the stream is not closed yet.
  await new Promise((resolve) => {
    for (const event of ['end', 'close']) stream.once(event, resolve);
  });
  if (seen['grpc-status'] === undefined && seen[':status'] === undefined && !stream.closed)
    await new Promise((resolve) => stream.once('close', resolve));
  session.destroy();
  const status = seen['grpc-status'];
  return {
    ...(status === undefined ? { http: seen[':status'], reset: stream.rstCode } : { status: Number(status) }),
    text: String(seen['grpc-message'] ?? seen.error ?? '').replaceAll('%20', ' '),
  };
}

const valid = ListClientsRequest.encode(ListClientsRequest.fromPartial({})).finish();
const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024));

describe('a message', () => {
  test.each<[string, OutgoingHttpHeaders, Buffer, object]>([
    ['that is right', head(listPath), message(valid), { status: 0 }],
    ['that is no protobuf', head(listPath), message(Buffer.from([0xff, 0xff])), { status: 13 }],
    ['over the limit', head(listPath), message(Buffer.alloc(64 * 1024 + 1)), { status: 8 }],
    ['that claims 4 GiB', head(listPath), message(valid, { length: 2 ** 32 - 1 }), { status: 8 }],
    ['that is cut short', head(listPath), message(Buffer.alloc(3), { length: 10 }), { status: 12 }],
    ['that is not there', head(listPath), Buffer.alloc(0), { status: 12 }],
    ['that comes twice', head(listPath), Buffer.concat([message(valid), message(valid)]), { status: 12 }],
    ['in gzip', head(listPath, { 'grpc-encoding': 'gzip' }), message(gzipSync(valid), { flag: 1 }), { status: 0 }],
    [
      'in gzip that is none',
      head(listPath, { 'grpc-encoding': 'gzip' }),
      message(Buffer.from('no'), { flag: 1 }),
      { status: 13 },
    ],
    ['that is a gzip bomb', head(listPath, { 'grpc-encoding': 'gzip' }), message(bomb, { flag: 1 }), { status: 8 }],
    ['flagged as compressed in no encoding', head(listPath), message(valid, { flag: 1 }), { status: 0 }],
    ['with a flag that there is not', head(listPath), message(valid, { flag: 2 }), { status: 0 }],
    ['in an unknown encoding', head(listPath, { 'grpc-encoding': 'br' }), message(valid, { flag: 1 }), { status: 12 }],
  ])('%s', async (_, headers, body, expected) => {
    expect(await answer(headers, body)).toMatchObject(expected);
  });

  test.each<[string, OutgoingHttpHeaders, Buffer, object]>([
    ['that is no frame ends the stream', head(connectPath), message(Buffer.from([0xff, 0xff])), { status: 0 }],
    ['over the limit', head(connectPath), message(Buffer.alloc(64 * 1024 + 1)), { status: 8 }],
    [
      'in gzip that is none',
      head(connectPath, { 'grpc-encoding': 'gzip' }),
      message(Buffer.from('no'), { flag: 1 }),
      { status: 13 },
    ],
    ['that is a gzip bomb', head(connectPath, { 'grpc-encoding': 'gzip' }), message(bomb, { flag: 1 }), { status: 8 }],
  ])('of a device %s', async (_, headers, body, expected) => {
    expect(await answer(headers, body, { keepOpen: true })).toMatchObject(expected);
  });
});

describe('a call', () => {
  test.each([
    ['soon', { status: 13 }],
    ['-1S', { status: 0 }],
    ['99999999H', { status: 0 }],
    ['999999999999999H', { status: 0 }],
    ['10S', { status: 0 }],
  ])('with grpc-timeout %s', async (timeout, expected) => {
    expect(await answer(head(listPath, { 'grpc-timeout': timeout }), message(valid))).toMatchObject(expected);
  });

  test.each([
    ['/nobody.Service/Call', { status: 12 }],
    ['/', { status: 12 }],
    ['/%E0%A4%A', { status: 12 }],
    [`/${'x'.repeat(4_000)}`, { status: 12 }],
    ['/b\u00fcro', { status: 12 }],
  ])('of %j, which nobody serves', async (path, expected) => {
    expect(await answer(head(path), message(valid))).toMatchObject(expected);
  });

  test('with more than 128 header pairs is reset', async () => {
    const many = Object.fromEntries(Array.from({ length: 140 }, (_, i) => [`x-${i}`, '1']));
    expect(await answer(head(listPath, many), message(valid))).toMatchObject({ reset: 11 });
  });

  test.each([listPath, watchPath, connectPath])('of %s with 9 KiB of headers is refused', async (path) => {
    const headers = head(path, { 'x-big': 'x'.repeat(9 * 1024) });
    expect(await answer(headers, message(valid))).toMatchObject({ status: 8, text: expect.stringContaining('8192') });
  });

  test('of a device that says nothing ends in time', async () => {
    expect(await answer(head(connectPath), Buffer.alloc(0), { keepOpen: true })).toMatchObject({ status: 4 });
  });
});

describe('a peer that reads nothing', () => {
  /** A session whose streams can take nothing from the server. */
  function blind(): ClientHttp2Session {
    const session = connectHttp2(`http://${server.addresses[0]}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => undefined);
    onTestFinished(() => session.destroy());
    return session;
  }

  test.each([listPath, watchPath])('loses its call of %s', async (path) => {
    const session = blind();
    await once(session, 'localSettings');
    const stream = session.request(head(path), { endStream: false });
    stream.on('error', () => undefined);
    const response = once(stream, 'response');
    stream.end(message(valid));
    stream.resume();
    await response;
    // More than a watcher may leave unread.
    for (let i = 0; path === watchPath && i < 40; i++) {
      const other = scriptedDevice(hub);
      await other.hello({ clientId: `other-${i}` });
      other.cut();
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
    session.destroy();
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-stream-reset', method: path }));
  });

  test('loses its stream as a device, once it was told to go', async () => {
    const session = blind();
    await once(session, 'localSettings');
    const stream = session.request(head(connectPath), { endStream: false });
    stream.on('error', () => undefined);
    stream.write(message(hello('pump-8')));
    stream.resume();
    await expect.poll(() => hub.clients.isConnected('default', 'pump-8')).toBe(true);
    hub.clients.disconnect('default', 'pump-8');
    if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
    session.destroy();
  });
});

describe('a connection', () => {
  test.each([
    ['says nothing', ''],
    ['says half a preface', 'PRI * HTTP/2.0'],
  ])('that %s is closed in time', async (_, text) => {
    const [host, port] = server.addresses[0]!.split(':');
    const socket = connectTcp(Number(port), host);
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => undefined);
    socket.write(text);
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    expect(facts).toContainEqual(
      expect.objectContaining({
        kind: 'grpc-connection-refused',
        reason: 'silent',
        message: expect.stringContaining('1000 ms'),
      }),
    );
  });
});

describe('a flood', () => {
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const frame = (type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer => {
    const header = Buffer.alloc(9);
    header.writeUIntBE(payload.length, 0, 3);
    header[3] = type;
    header[4] = flags;
    header.writeUInt32BE(stream, 5);
    return Buffer.concat([header, payload]);
  };
  async function open(): Promise<Socket> {
    const [host, port] = server.addresses[0]!.split(':');
    const socket = connectTcp(Number(port), host);
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(Buffer.concat([preface, frame(4, 0, 0)]));
    return socket;
  }
  /** Sends it again and again, reading nothing, until the server has had enough. */
  async function until(socket: Socket, next: () => Buffer): Promise<void> {
    const closed = new Promise((resolve) => socket.once('close', resolve));
    for (let i = 0; i < 400 && !socket.destroyed; i++) {
      socket.write(next());
      await new Promise((resolve) => setImmediate(resolve));
    }
    socket.resume();
    await closed;
  }
  // Literal header fields without an index: method, scheme, path, content-type.
  const literal = (name: string, value: string): Buffer =>
    Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);
  const block = Buffer.concat([
    literal(':method', 'POST'),
    literal(':scheme', 'http'),
    literal(':path', connectPath),
    literal(':authority', 'x'),
    literal('content-type', 'application/grpc'),
  ]);

  test('of resets closes its own connection', async () => {
    const socket = await open();
    let id = -1;
    await until(socket, () =>
      Buffer.concat(
        Array.from({ length: 50 }, () => {
          id += 2;
          return Buffer.concat([frame(1, 4, id, block), frame(3, 0, id, Buffer.from([0, 0, 0, 8]))]);
        }),
      ),
    );
  });

  test('of pings that takes no answers closes its own connection', async () => {
    const socket = await open();
    socket.pause();
    const pings = Buffer.concat(Array.from({ length: 4_000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
    await until(socket, () => pings);
  });

  test('of settings that takes no answers closes its own connection', async () => {
    const socket = await open();
    socket.pause();
    const settings = Buffer.concat(
      Array.from({ length: 4_000 }, () => frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 1]))),
    );
    await until(socket, () => settings);
  });

  test('of continuations closes its own connection', async () => {
    const socket = await open();
    socket.write(frame(1, 0, 1, block));
    await until(socket, () =>
      Buffer.concat(Array.from({ length: 20 }, () => frame(9, 0, 1, literal('x', 'y'.repeat(100))))),
    );
  });

  test('of half a frame that never goes on is closed with its connection', async () => {
    const socket = await open();
    socket.write(frame(0, 0, 1, Buffer.alloc(100)).subarray(0, 20));
    socket.end();
    socket.resume();
    await once(socket, 'close');
  });
});
