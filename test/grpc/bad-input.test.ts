import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { commandToProto } from '../../src/protocol/convert.ts';
import { decodeDown, encodeUp } from '../../src/protocol/frames.ts';
import { ListClientsRequest } from '../../src/protocol/gen/signalbox/v1/client.ts';
import { SendCommandToClientRequest } from '../../src/protocol/gen/signalbox/v1/command.ts';
import type { Hello, Welcome } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { testCommand } from '../../src/testing/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { clientOf, connectPath, hello, helloOf, unary } from './harness.ts';
import { facts, hub, onlyHealthyAreLeft, peers, serveHealthy, server } from './healthy-hub.ts';

serveHealthy({ firstFrameMs: 1_000, stallMs: 500, maxMessageBytes: 64 * 1024 });

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
/** grpc-js says it with a dot or without, by the kind of the call. */
const tooLong = expect.stringMatching(/^Received message larger than max \(65537 vs\.? 65536\)$/);
const tooMany = expect.stringMatching(/^the call brings 92\d\d bytes of metadata, the limit is 8192$/);
const cutShort = { status: 3, text: 'the stream ended within a message' };
const noMessage = `Received no request message for server streaming method ${listPath}`;
const noWhole = { status: 12, text: 'the call ended without a whole request' };
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
  call('a message that is cut short', message(Buffer.alloc(3), { length: 10 }), cutShort),
  call('a message that is not there', Buffer.alloc(0), { status: 12, text: noMessage }),
  call('a message that comes twice', Buffer.concat([message(valid), message(valid)]), {
    status: 12,
    text: `Received a second request message for server streaming method ${listPath}`,
  }),
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
    ...stream('a frame that is cut short', message(Buffer.alloc(3), { length: 10 }), cutShort),
    keepOpen: false,
  },
  {
    ...stream(
      'a frame that is cut short, of one that may compress',
      message(Buffer.alloc(3), { length: 10 }),
      cutShort,
      gzip,
    ),
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
      unknown(path),
      {},
      path,
    ),
  ),
  command('that is right, for a client that is away', message(toNobody), offline),
  command('in gzip', message(gzipSync(toNobody), { flag: 1 }), offline, gzip),
  command('with a deadline', message(toNobody), offline, { 'grpc-timeout': '10S' }),
  command('that is no protobuf', message(Buffer.from([0xff, 0xff])), {
    status: 3,
    text: 'the request is not a SendCommandToClientRequest',
  }),
  command('over the limit', message(Buffer.alloc(64 * 1024 + 1)), { status: 8, text: tooLong }),
  command('that claims 4 GiB', message(toNobody, { length: 2 ** 32 - 1 }), {
    status: 8,
    text: 'Received message larger than max (4294967295 vs. 65536)',
  }),
  command('that is cut short', message(Buffer.alloc(3), { length: 10 }), noWhole),
  command('that is not there', Buffer.alloc(0), noWhole),
  command('that comes twice', Buffer.concat([message(toNobody), message(toNobody)]), {
    status: 12,
    text: 'a second request came in one call',
  }),
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
  const [said] = await Promise.all([answer(headers, body, keepOpen ? { keepOpen } : {}), peers.beat()]);
  expect(said).toMatchObject(expected);
});

/** A device's stream, by hand: the welcome, and what became of it in the end. */
async function deviceStream(resume: { session: string; lastSeq: number } | undefined, then: readonly Buffer[]) {
  const session = http2();
  const stream = session.request(head(connectPath, gzip), { endStream: false });
  const over = new Promise<number>((resolve) =>
    stream.on('trailers', (trailers) => resolve(Number(trailers['grpc-status']))),
  );
  let heard = Buffer.alloc(0);
  const welcome = new Promise<Welcome>((resolve) =>
    stream.on('data', (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk]);
      if (heard.length < 5 || heard.length < 5 + heard.readUInt32BE(1)) return;
      const { body } = decodeDown(heard.subarray(5, 5 + heard.readUInt32BE(1)));
      if (body?.$case === 'welcome') resolve(body.value);
    }),
  );
  const { seq, ack, body } = helloOf('half');
  const value = { ...(body!.value as Hello), resume };
  stream.write(message(encodeUp({ seq, ack, body: { $case: 'hello', value } })));
  const { session: id, resumed, lastSeq } = await welcome;
  for (const each of then) stream.write(each);
  if (resume === undefined) stream.end();
  else hub.clients.disconnect('default', 'half');
  const status = await over;
  session.destroy();
  return { id, resumed, lastSeq, status };
}

const said = (seq: number): Buffer => {
  const value = { number: seq, name: 'said', json: '{}', atMs: 0 };
  return encodeUp({ seq, ack: 0, body: { $case: 'event', value } });
};
const second = said(2);
test.each<[string, Buffer, number]>([
  ['cut short', message(second, { length: second.length + 9 }), 3],
  ['over the limit', message(Buffer.alloc(64 * 1024 + 1)), 8],
  ['in gzip that is none', message(second, { flag: 1 }), 13],
  ['in half of a gzip', message(gzipSync(second).subarray(0, 12), { flag: 1 }), 13],
  ['a gzip bomb', message(bomb, { flag: 1 }), 8],
  ['flagged as what there is not', message(second, { flag: 2 }), 3],
])(
  'a frame that is %s is not counted as received: the session goes on behind the one before it',
  async (_, bad, code) => {
    const broken = await deviceStream(undefined, [message(said(1)), bad]);
    expect(broken).toMatchObject({ resumed: false, status: code });
    const next = await deviceStream({ session: broken.id, lastSeq: 0 }, []);
    expect(next).toMatchObject({ id: broken.id, resumed: true, lastSeq: 1 });
  },
);

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
