import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import type { GrpcFact } from '../../src/grpc/facts.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { commandToProto } from '../../src/protocol/convert.ts';
import { ListClientsRequest } from '../../src/protocol/gen/signalbox/v1/client.ts';
import { SendCommandToClientRequest } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { type HealthyPeers, healthyPeers } from '../support/healthy.ts';
import { clientOf, connectPath, hello, unary } from './harness.ts';

// One server for all: what one peer does wrong must not be felt by the next, nor by those that do well beside it.
const facts: GrpcFact[] = [];
let hub: Hub;
let server: GrpcServer;
let peers: HealthyPeers;
const log = memoryEventLog();
const maxStreams = 50;

beforeAll(async () => {
  hub = new Hub({ log });
  server = await serveGrpc({
    hub,
    log,
    authenticator: openAuthenticator(),
    addresses: ['127.0.0.1:0'],
    limits: { firstFrameMs: 1_000, stallMs: 500, maxMessageBytes: 64 * 1024, maxConcurrentStreams: maxStreams },
    observe: (fact) => facts.push(fact),
  });
  peers = await healthyPeers({ address: server.addresses[0]! });
});
afterEach(async () => {
  await peers.beat();
  await onlyHealthyAreLeft();
  expect(facts.filter((fact) => fact.kind === 'grpc-call-failed' && fact.code === 'internal')).toEqual([]);
});
afterAll(async () => {
  await peers[Symbol.asyncDispose]();
  await server.close({ timeoutMs: 0 });
  await hub.close();
  await log.close();
});

/** The healthy device, its caller and its watcher. */
async function onlyHealthyAreLeft(): Promise<void> {
  await expect.poll(() => server.load).toEqual({ connections: 3, deviceStreams: 1 });
  expect(hub.load).toEqual({ sessions: 1, outboxBytes: 0 });
}

function http2(): ClientHttp2Session {
  const session = connectHttp2(`http://${server.addresses[0]}`);
  session.on('error', () => undefined);
  onTestFinished(() => session.destroy());
  return session;
}

const listPath = '/signalbox.v1.ClientService/ListClients';
const watchPath = '/signalbox.v1.ClientService/WatchClients';
const sendPath = '/signalbox.v1.CommandService/SendCommandToClient';
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
    text: decoded(String(seen['grpc-message'] ?? seen.error ?? '')),
  };
}

/** A message as it is read; grpc-js does not encode all of its own. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

const valid = ListClientsRequest.encode(ListClientsRequest.fromPartial({})).finish();
const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024));
const gzip = { 'grpc-encoding': 'gzip' };
const pairs = Object.fromEntries(Array.from({ length: 140 }, (_, i) => [`x-${i}`, '1']));
const tooLong = expect.stringMatching(/^Received message larger than max \(65537 vs\.? 65536\)$/);
const tooMany = expect.stringMatching(/^the call brings \d+ bytes of metadata, the limit is 8192$/);
const noEncoding = (flag: number) => `a message has the flag ${flag}, but no encoding was agreed on`;
const noTimeout = (given: string) => `grpc-timeout "${given}" is not valid: 1 to 8 digits and a unit, HMSmun`;

interface Bad {
  readonly name: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
  readonly keepOpen?: boolean;
  readonly expected: object;
}

const call = (name: string, body: Buffer, expected: object, more: OutgoingHttpHeaders = {}, path = listPath): Bad => ({
  name,
  headers: head(path, more),
  body,
  expected,
});
/** On a device's stream, which stays open on the peer's side. */
const stream = (name: string, body: Buffer, expected: object, more: OutgoingHttpHeaders = {}): Bad => ({
  ...call(name, body, expected, more, connectPath),
  keepOpen: true,
});
/** Of the method that is not served by grpc-js, unless it is asked for more than a plain call. */
const command = (name: string, body: Buffer, expected: object, more: OutgoingHttpHeaders = {}): Bad =>
  call(`a command ${name}`, body, expected, more, sendPath);
const toNobody = SendCommandToClientRequest.encode({
  command: commandToProto(testCommand({ clientId: 'nobody' })),
  brief: true,
}).finish();
const offline = { status: 14, text: 'client nobody has no live stream' };
const good = { status: 0, text: 'OK' };
const unknown = (path: string) => ({ status: 12, text: `The server does not implement the method ${path}` });

const catalogue: Bad[] = [
  call('a message that is right', message(valid), good),
  call('a message that is no protobuf', message(Buffer.from([0xff, 0xff])), {
    status: 13,
    text: 'Error deserializing request',
  }),
  call('a message over the limit', message(Buffer.alloc(64 * 1024 + 1)), { status: 8, text: tooLong }),
  call('a message that claims 4 GiB', message(valid, { length: 2 ** 32 - 1 }), {
    status: 8,
    text: 'Received message larger than max (4294967295 vs 65536)',
  }),
  call('a message that is cut short', message(Buffer.alloc(3), { length: 10 }), { status: 12 }),
  call('a message that is not there', Buffer.alloc(0), { status: 12 }),
  call('a message that comes twice', Buffer.concat([message(valid), message(valid)]), { status: 12 }),
  call('a message in gzip', message(gzipSync(valid), { flag: 1 }), good, gzip),
  call(
    'a message in gzip that is none',
    message(Buffer.from('no'), { flag: 1 }),
    { status: 13, text: 'Failed to decompress message' },
    gzip,
  ),
  call(
    'a message in half of a gzip',
    message(gzipSync(Buffer.alloc(999)).subarray(0, 15), { flag: 1 }),
    { status: 13, text: 'Failed to decompress message' },
    gzip,
  ),
  call(
    'a gzip bomb',
    message(bomb, { flag: 1 }),
    {
      status: 8,
      text: 'Received message that decompresses to a size larger than 65536',
    },
    gzip,
  ),
  call('a message flagged as compressed in no encoding', message(valid, { flag: 1 }), {
    status: 3,
    text: noEncoding(1),
  }),
  call('a message with a flag that there is not', message(valid, { flag: 2 }), { status: 3, text: noEncoding(2) }),
  call(
    'a message with a flag that there is not, beside an encoding',
    message(valid, { flag: 255 }),
    { status: 3, text: noEncoding(255) },
    gzip,
  ),
  call(
    'a message in an unknown encoding',
    message(valid, { flag: 1 }),
    {
      status: 12,
      text: 'Received message compressed with unsupported encoding "br"',
    },
    { 'grpc-encoding': 'br' },
  ),
  stream('a frame that is none', message(Buffer.from([0xff, 0xff])), good),
  stream('a frame over the limit', message(Buffer.alloc(64 * 1024 + 1)), { status: 8, text: tooLong }),
  stream(
    'a frame in gzip that is none',
    message(Buffer.from('no'), { flag: 1 }),
    { status: 13, text: 'Failed to decompress message' },
    gzip,
  ),
  stream(
    'a frame that is a gzip bomb',
    message(bomb, { flag: 1 }),
    {
      status: 8,
      text: 'Received message that decompresses to a size larger than 65536',
    },
    gzip,
  ),
  stream('a frame flagged as compressed in no encoding', message(hello('x'), { flag: 1 }), {
    status: 3,
    text: noEncoding(1),
  }),
  {
    ...stream('a frame that is cut short', message(Buffer.alloc(3), { length: 10 }), {
      status: 3,
      text: 'the stream ended within a message',
    }),
    keepOpen: false,
  },
  ...['soon', '-1S', '1', 'S', '1.5S', '999999999999999H', '10s', ''].map((given) =>
    call(
      `grpc-timeout ${JSON.stringify(given)}`,
      message(valid),
      { status: 3, text: noTimeout(given) },
      { 'grpc-timeout': given },
    ),
  ),
  ...['10S', '99999999H', '99999999M'].map((given) =>
    call(`grpc-timeout ${given}`, message(valid), good, { 'grpc-timeout': given }),
  ),
  ...['/nobody.Service/Call', '/', '/%E0%A4%A', `/${'x'.repeat(4_000)}`, '/b\u00fcro'].map((path) =>
    call(
      `a call of ${JSON.stringify(path).slice(0, 40)}, which nobody serves`,
      message(valid),
      path.length < 1000 ? unknown(path) : { status: 12 },
      {},
      path,
    ),
  ),
  command('that is right, for a client that is away', message(toNobody), offline),
  command('in gzip', message(gzipSync(toNobody), { flag: 1 }), offline, gzip),
  command('with a deadline', message(toNobody), offline, { 'grpc-timeout': '10S' }),
  command('that is no protobuf', message(Buffer.from([0xff, 0xff])), { status: 3 }),
  command('over the limit', message(Buffer.alloc(64 * 1024 + 1)), { status: 8, text: tooLong }),
  command('that claims 4 GiB', message(toNobody, { length: 2 ** 32 - 1 }), { status: 8 }),
  command('that is cut short', message(Buffer.alloc(3), { length: 10 }), { status: 12 }),
  command('that is not there', Buffer.alloc(0), { status: 12 }),
  command('that comes twice', Buffer.concat([message(toNobody), message(toNobody)]), { status: 12 }),
  command('flagged as compressed in no encoding', message(toNobody, { flag: 1 }), { status: 3, text: noEncoding(1) }),
  command('with a flag that there is not', message(toNobody, { flag: 2 }), { status: 3, text: noEncoding(2) }),
  command('of another content type', message(toNobody), { http: 415 }, { 'content-type': 'application/json' }),
  call('a call with more than 128 header pairs', message(valid), { reset: 11 }, pairs),
  ...[listPath, watchPath, connectPath, sendPath].map((path) =>
    call(
      `9 KiB of headers for ${path}`,
      message(valid),
      { status: 8, text: tooMany },
      { 'x-big': 'x'.repeat(9 * 1024) },
      path,
    ),
  ),
];

test.each(catalogue)('$name gets its answer', async ({ headers, body, keepOpen, expected }) => {
  expect(await answer(headers, body, keepOpen ? { keepOpen } : {})).toMatchObject(expected);
});

test('a call that may take a month is not over at once', async () => {
  const session = http2();
  const stream = session.request(head(watchPath, { 'grpc-timeout': '720H' }), { endStream: false });
  stream.end(message(valid));
  await once(stream, 'response');
  const over = once(stream, 'trailers').then(() => 'over');
  stream.resume();
  // One that overflowed into the past would be over within a millisecond.
  expect(await Promise.race([over, new Promise((resolve) => setTimeout(resolve, 100, 'goes on'))])).toBe('goes on');
  session.destroy();
});

test('the library of a caller takes too many headers for what they are', async () => {
  const client = clientOf(server.addresses[0]!);
  expect(await unary(client, listPath, valid, pairs)).toMatchObject({ code: 8 });
  client.close();
});

test('of more calls than a connection may have at once the rest is refused', async () => {
  const session = http2();
  await once(session, 'remoteSettings');
  const ends: Promise<number>[] = [];
  for (let i = 0; i < maxStreams + 5; i++) {
    const stream = session.request(head(watchPath), { endStream: false });
    stream.on('error', () => undefined);
    stream.resume();
    ends.push(
      new Promise((resolve) => {
        stream.once('close', () => resolve(stream.rstCode));
        stream.once('response', () => resolve(-1));
      }),
    );
    stream.end(message(valid));
  }
  // node:http2 holds back what the other side has said it will not take.
  expect(session.remoteSettings.maxConcurrentStreams).toBe(maxStreams);
  const codes = await Promise.all(ends.slice(0, maxStreams));
  expect(codes).toEqual(Array(maxStreams).fill(-1));
  session.destroy();
});

test('a device that says nothing is told so in time', async () => {
  expect(await answer(head(connectPath), Buffer.alloc(0), { keepOpen: true })).toEqual({
    status: 4,
    text: 'no frame came within 1000 ms',
  });
});

test('the whole of it, again and again, costs nothing that stays', { timeout: 120_000 }, async () => {
  await costsNothing(
    async () => {
      await Promise.all(
        catalogue.map(({ headers, body, keepOpen }) => answer(headers, body, keepOpen ? { keepOpen } : {})),
      );
      facts.length = 0;
    },
    { settle: onlyHealthyAreLeft },
  );
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
