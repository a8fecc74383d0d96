import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { expect, test } from 'vitest';
import { scriptedDevice } from '../../src/testing/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { connectPath, hello, start } from './harness.ts';
import { facts, hub, maxStreams, onlyHealthyAreLeft, peers, serveHealthy, server } from './healthy-hub.ts';
import { callHeaders, frame, literal, RawPeer } from './raw-peer.ts';

// Whole connections that go wrong; `bad-input.test.ts` has the calls.
serveHealthy({ firstFrameMs: 300, stallMs: 300 });

const listPath = '/signalbox.v1.ClientService/ListClients';
const watchPath = '/signalbox.v1.ClientService/WatchClients';
const emptyMessage = Buffer.alloc(5);
/** One call more than may be at once, and four more. */
const calls = Array.from({ length: maxStreams + 5 }, (_, i) => 2 * i + 1);
const openCalls = (): Buffer[] =>
  calls.flatMap((id) => [frame(1, 4, id, callHeaders(watchPath)), frame(0, 1, id, emptyMessage)]);
let resetStream = -1;
const resets = (): Buffer =>
  Buffer.concat(
    Array.from({ length: 50 }, () => {
      resetStream += 2;
      const cancel = frame(3, 0, resetStream, Buffer.from([0, 0, 0, 8]));
      return Buffer.concat([frame(1, 4, resetStream, callHeaders(connectPath)), cancel]);
    }),
  );
const pings = Buffer.concat(Array.from({ length: 4_000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
const settings = Buffer.concat(Array.from({ length: 4_000 }, () => frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 1]))));
const continuations = Buffer.concat(Array.from({ length: 20 }, () => frame(9, 0, 1, literal('x', 'y'.repeat(100)))));

const silent = { facts: ['silent: no HTTP/2 preface within 300 ms'], text: '' };
const notHttp2 = {
  facts: ['not-http2: what came is not HTTP/2'],
  text: expect.stringMatching(/^HTTP\/1\.1 505 [\s\S]*This port speaks gRPC over HTTP\/2 only\.\n$/),
};

interface Bad {
  readonly name: string;
  readonly act: (peer: RawPeer) => unknown;
  /** What is said to it before it is closed. Left out: not even that can be read by a peer that floods. */
  readonly text?: unknown;
  readonly said?: readonly string[];
  /** What is told of it: exactly that, once. Default: nothing. */
  readonly facts?: readonly string[];
}

const catalogue: Bad[] = [
  { name: 'says nothing', act: () => undefined, ...silent },
  { name: 'says half a preface', act: (peer) => peer.say('PRI * HTTP/2.0'), ...silent },
  { name: 'speaks HTTP/1.1', act: (peer) => peer.say('GET / HTTP/1.1\r\nhost: x\r\n\r\n'), ...notHttp2 },
  { name: 'speaks TLS to a plain port', act: (peer) => peer.say('\x16\x03\x01\x02\0\x01'), ...notHttp2 },
  {
    name: 'says garbage after the preface',
    act: (peer) => peer.say('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', Buffer.alloc(10, 0xff)),
    said: ['goaway 1 SETTINGS expected'],
  },
  {
    name: 'says a frame of 16 MiB',
    act: (peer) => peer.begin(Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
    said: [expect.stringMatching(/^goaway 6/)],
  },
  {
    name: 'says half a frame, and leaves',
    act: (peer) => {
      peer.begin(frame(1, 4, 1, callHeaders(connectPath)).subarray(0, 20));
      peer.socket.end();
    },
    said: [],
  },
  {
    name: 'has heard how many calls it may have, and makes more',
    async act(peer) {
      peer.begin(frame(4, 1, 0));
      peer.say(...openCalls());
    },
    said: ['goaway 1 request HEADERS: max concurrent streams exceeded'],
  },
  { name: 'floods with resets', act: (peer) => peer.flood(resets) },
  { name: 'floods with pings, and takes no answers', act: (peer) => peer.flood(() => pings) },
  { name: 'floods with settings, and takes no answers', act: (peer) => peer.flood(() => settings) },
  {
    name: 'floods with continuations',
    act: (peer) => peer.flood(() => continuations, frame(1, 0, 1, callHeaders(connectPath))),
  },
];

/** Does it, and waits until its connection is closed. */
async function closed({ act }: Bad): Promise<RawPeer> {
  const peer = await RawPeer.dial(server.addresses[0]!);
  await act(peer);
  await peer.until(() => false);
  return peer;
}

test.each(catalogue)('a connection that $name is closed, and nobody else notices', async (bad) => {
  // Meanwhile those who do well go on.
  const [peer] = await Promise.all([closed(bad), peers.beat()]);
  if (bad.text !== undefined) expect(peer.text).toEqual(bad.text);
  if (bad.said !== undefined) expect(peer.said.filter((each) => !each.startsWith('headers'))).toEqual(bad.said);
  const told = facts.flatMap((fact) =>
    fact.kind === 'grpc-connection-refused' ? [`${fact.reason}: ${fact.message}`] : [],
  );
  expect(told).toEqual(bad.facts ?? []);
});

/** Makes more calls than it may have at once, before it can know how many these are; what becomes of each. */
async function tooManyCalls(): Promise<string[]> {
  const peer = await RawPeer.dial(server.addresses[0]!);
  peer.begin(...openCalls());
  await peer.until(() => peer.said.length >= calls.length);
  peer.socket.destroy();
  return peer.said;
}

test('of more calls than a connection may have at once the rest is refused, and the others go on', async () => {
  const said = await tooManyCalls();
  const refused = calls.slice(maxStreams).map((id) => `reset ${id} with 7`); // REFUSED_STREAM: never begun
  const taken = calls.slice(0, maxStreams).map((id) => `headers ${id}`);
  expect(said.toSorted()).toEqual([...refused, ...taken].toSorted());
});

test('a connection that falls silent after its preface is closed by keepalive', async () => {
  const { server: other } = await start({ keepalive: { timeMs: 50, timeoutMs: 50 } });
  for (const beginning of [[], [frame(1, 4, 1, callHeaders(connectPath)).subarray(0, 20)]]) {
    const peer = await RawPeer.dial(other.addresses[0]!);
    peer.begin(...beginning);
    await peer.until(() => false);
  }
});

/** A session whose streams can take nothing from the server. */
async function blind(): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://${server.addresses[0]}`, { settings: { initialWindowSize: 0 } });
  session.on('error', () => undefined);
  await once(session, 'localSettings');
  return session;
}

function blindCall(session: ClientHttp2Session, path: string, first: Buffer) {
  const stream = session.request(
    { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
    { endStream: false },
  );
  stream.on('error', () => undefined);
  stream.resume();
  stream.write(Buffer.concat([Buffer.from([0, 0, 0, 0, first.length]), first]));
  return stream;
}

/** A call whose answers are not read, until it is closed. */
async function unreadCall(path: string): Promise<void> {
  const session = await blind();
  const stream = blindCall(session, path, Buffer.alloc(0));
  const response = once(stream, 'response');
  stream.end();
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
}

/** A device that reads nothing, told to go, until its stream is closed. */
async function unreadDevice(): Promise<void> {
  const session = await blind();
  const stream = blindCall(session, connectPath, hello('pump-8'));
  await expect.poll(() => hub.clients.isConnected('default', 'pump-8')).toBe(true);
  hub.clients.disconnect('default', 'pump-8');
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
  session.destroy();
}

test.each([listPath, watchPath])('a peer that reads nothing loses its call of %s', async (path) => {
  await unreadCall(path);
  expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-stream-reset', method: path }));
});

test('a device that reads nothing loses its stream, once it was told to go', unreadDevice);

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      await Promise.all([...catalogue.map(closed), tooManyCalls(), unreadCall(listPath), unreadCall(watchPath)]);
      await unreadDevice();
      facts.length = 0;
    },
    { times: 6, warmUp: 2, settle: onlyHealthyAreLeft },
  );
});
