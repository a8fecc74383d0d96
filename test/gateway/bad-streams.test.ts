import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { channelsFingerprint, decodeCursor, encodeCursor } from '../../src/events/cursor.ts';
import { hubClients } from '../../src/grpc/index.ts';
import type { Hello } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { collect, type ScriptedDevice, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { type HealthyPeers, healthyPeers } from '../support/healthy.ts';
import { watch } from './support.ts';
import { WsClient } from './ws-client.ts';

// One server for all, with a device, a caller and three watchers (gRPC, SSE, WebSocket) who do nothing wrong.
let server: SignalboxServer;
let url: string;
let peers: HealthyPeers;
let callers: ReturnType<typeof hubClients>;
let watchers: { event(): Promise<{ name: string; id: string; data: unknown }>; leave(): void }[];

beforeAll(async () => {
  server = await serve(
    { grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', preset: 'test', heartbeatMs: 3_600_000 },
    { sources: { env: {}, cwd: import.meta.dirname } },
  );
  url = server.http[0]!;
  peers = await healthyPeers({ address: server.grpc[0]! });
  callers = hubClients({ address: server.grpc[0]! });
  watchers = [await sse('?channel=client.bad&channel=own.bad'), await ws('?channel=client.bad&channel=own.bad')];
});
afterAll(async () => {
  for (const watcher of watchers) watcher.leave();
  await callers.close();
  await peers[Symbol.asyncDispose]();
  await server.close();
});

/** Reads by the letter of the standard, for which a lone CR ends a line too. */
async function sse(query: string, lastEventId?: string) {
  const headers: Record<string, string> = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
  const reader = await watch(`${url}/v1/events${query}`, { headers });
  const opening = await reader.next();
  return {
    openingId: opening!.id,
    async event() {
      const { name, id, data } = await reader.event();
      return { name, id, data: JSON.parse(data) as unknown };
    },
    leave: () => reader.leave(),
  };
}

async function ws(query: string, lastEventId?: string) {
  const from = lastEventId === undefined ? '' : `&last_event_id=${encodeURIComponent(lastEventId)}`;
  const client = await WsClient.open(`${url}/v1/ws${query}${from}`);
  const opening = await client.next();
  return {
    openingId: opening!.id!,
    async event() {
      const message = await client.next();
      if (message === undefined) throw new Error('the socket is closed');
      return { name: message.event, id: message.id ?? '', data: message.data };
    },
    leave: () => client.leave(),
  };
}

let marks = 0;
/** What both watchers of the bad one are told until a mark that is set now; the same, and in the same order. */
async function told(): Promise<string[]> {
  const mark = ++marks;
  await callers.events.publishEvent({ channel: 'own.bad', type: 'mark', json: JSON.stringify(mark) });
  const both: string[][] = [];
  for (const watcher of watchers) {
    const names: string[] = [];
    for (;;) {
      const { name, id, data } = await watcher.event();
      expect(id).not.toBe('0');
      if (name === 'mark') {
        expect(data).toMatchObject({ data: mark });
        break;
      }
      names.push(name);
    }
    both.push(names);
  }
  expect(both[1]!.toSorted()).toEqual(both[0]!.toSorted());
  return both[0]!;
}

const signs = { CR: '\r', LF: '\n', CRLF: '\r\n', NUL: '\0', BOM: '\uFEFF' };
const forging = (sign: string): string => `a${sign}event: forged${sign}id: 0${sign}data: 1${sign}${sign}b`;

/** What the hub says of it; undefined where it is taken. */
async function refusal(call: Promise<unknown>): Promise<string | undefined> {
  return call.then(
    () => undefined,
    (error: unknown) => toHubError(error).code,
  );
}

async function withDevice<T>(act: (device: ScriptedDevice) => Promise<T>, hello: Partial<Hello> = {}): Promise<T> {
  const device = scriptedDevice(server.hub);
  try {
    await device.hello({ clientId: 'bad', ...hello });
    return await act(device);
  } finally {
    device.cut();
  }
}

/** A command to the bad one, and what becomes of it. */
const commanded = (act: (device: ScriptedDevice, id: string) => void) =>
  withDevice(async (device) => {
    const updates = collect(server.hub.send(testCommand({ clientId: 'bad' })));
    act(device, (await device.command()).id);
    await updates;
  });

const post = async (body: object, path = '/v1/clients/bad/commands'): Promise<string | undefined> => {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  const answer = (await response.json()) as { code?: string };
  return response.ok ? undefined : answer.code;
};
const goodCommand = { type: 'test.Do', payloadBase64: '', whenOffline: 'queue', ttlMs: 60_000, wait: 'accepted' };

const refused = 'invalid-argument';
/** Where a device or a caller can put text, and what is to become of one that would forge an event. */
const fields: [string, (text: string) => Promise<string | undefined>, string | undefined][] = [
  [
    'client id',
    (text) =>
      withDevice(async () => undefined, { clientId: text }).then(
        () => undefined,
        () => 'goodbye',
      ),
    'goodbye',
  ],
  [
    'label',
    (text) =>
      withDevice(async () => undefined, { labels: { site: text } }).then(
        () => undefined,
        () => 'goodbye',
      ),
    'goodbye',
  ],
  ["name of the device's program", (text) => withDevice(async () => undefined, { agent: text }), undefined],
  [
    'name of an event',
    (text) =>
      withDevice(async (device) => {
        device.send({ $case: 'event', value: { number: 1, name: text, json: '1', atMs: 0 } });
        return undefined;
      }),
    undefined,
  ],
  [
    'data of an event',
    (text) =>
      withDevice(async (device) => {
        device.send({
          $case: 'event',
          value: { number: 1, name: 'said', json: JSON.stringify({ [text]: text }), atMs: 0 },
        });
        return undefined;
      }),
    undefined,
  ],
  [
    'space of JSON',
    (text) =>
      withDevice(async (device) => {
        device.send({
          $case: 'event',
          value: { number: 1, name: 'said', json: `{"a": ${text.replaceAll(/[^\r\n]/g, '')} 1}`, atMs: 0 },
        });
        return undefined;
      }),
    undefined,
  ],
  [
    'code and text of an error',
    (text) => commanded((device, id) => device.end(id, 'failed', text, text)).then(() => undefined),
    undefined,
  ],
  [
    'note',
    (text) =>
      commanded((device, id) => {
        device.send({
          $case: 'progress',
          value: { commandId: id, progress: { fraction: 0.5, note: text, item: undefined, itemNumber: 0 } },
        });
        device.succeed(id);
      }).then(() => undefined),
    undefined,
  ],
  [
    'type of a result',
    (text) =>
      commanded((device, id) => {
        device.succeed(id, { type: text, value: new Uint8Array([1]) });
      }).then(() => undefined),
    undefined,
  ],
  ['command name', (text) => post({ ...goodCommand, type: text }), refused],
  ['method name', (text) => post({ method: text }), refused],
  ['idempotency key', (text) => post({ ...goodCommand, idempotencyKey: text }), refused],
  ['ordering key', (text) => post({ ...goodCommand, orderingKey: text }), refused],
  ['coalesce key', (text) => post({ ...goodCommand, coalesceKey: text }), refused],
  [
    'reason of a cancel',
    async (text) => {
      const command = testCommand({ clientId: 'bad', whenOffline: 'queue' });
      const ended = collect(server.hub.send(command));
      const said = await post({ reason: text }, `/v1/commands/${command.id}/cancel`);
      await refusal(server.hub.cancel('default', command.id, 'over'));
      await ended;
      return said;
    },
    undefined,
  ],
  [
    'channel that is published to',
    (text) => refusal(callers.events.publishEvent({ channel: `own.${text}`, type: 'said', json: '1' })),
    refused,
  ],
  [
    'type of a published event',
    (text) => refusal(callers.events.publishEvent({ channel: 'own.bad', type: text, json: '1' })),
    refused,
  ],
  [
    'published data',
    (text) =>
      refusal(
        callers.events.publishEvent({ channel: 'own.bad', type: 'said', json: JSON.stringify({ [text]: text }) }),
      ),
    undefined,
  ],
  [
    'producer of a published event',
    (text) =>
      refusal(
        callers.events.publishEvent({ channel: 'own.bad', type: 'said', json: '1', producerId: text, producerSeq: 1 }),
      ),
    undefined,
  ],
];
const ours = new Set([
  'said',
  'client.connected',
  'client.disconnected',
  'client.changed',
  'command.queued',
  'command.sent',
  'command.delivered',
  'command.progress',
  'command.succeeded',
  'command.failed',
  'command.cancelled',
]);

const nasty = fields.flatMap(([field, put, expected]) =>
  Object.entries(signs).map(([name, sign]) => ({ field, name, sign, put, expected })),
);

test.each(nasty)('$name in the $field forges no event', async ({ put, sign, expected }) => {
  expect(await put(forging(sign))).toBe(expected);
  for (const name of await told()) expect(ours).toContain(name);
  await peers.beat();
});

const roads = { SSE: sse, WebSocket: ws };
const positions: [string, () => Promise<string>, string[]][] = [
  ['empty', async () => '', []],
  ['garbage', async () => '<script>', ['hub.reset']],
  ['of 8 KB', async () => 'A'.repeat(8000), ['hub.reset']],
  [
    'of another channel',
    async () => {
      const other = await sse('?channel=client.somebody');
      other.leave();
      return other.openingId;
    },
    ['hub.reset'],
  ],
  [
    'of the future',
    async () => {
      const channels = ['default/own.place'] as never;
      const now = await sse('?channel=own.place');
      now.leave();
      const place = decodeCursor(now.openingId, channels);
      if (place.kind !== 'positions') throw new Error(now.openingId);
      const ahead = place.positions.map(({ epoch, seq }) => ({ epoch, seq: seq + 1_000_000 }));
      return encodeCursor(channelsFingerprint(channels), ahead);
    },
    ['hub.reset'],
  ],
];
test.each(
  positions.flatMap(([name, make, expected]) =>
    Object.entries(roads).map(([road, open]) => ({ name, road, make, expected, open })),
  ),
)(
  'a last event id that is $name is told over $road, and not silently passed over',
  async ({ make, expected, open }) => {
    const id = await make();
    const reader = await open('?channel=own.place', id);
    await callers.events.publishEvent({ channel: 'own.place', type: 'after', json: '1' });
    const names: string[] = [];
    while (names.at(-1) !== 'after') {
      const { name } = await reader.event();
      names.push(name);
    }
    expect(names.filter((name) => name.startsWith('hub.'))).toEqual(expected);
    reader.leave();
    await peers.beat();
  },
);

async function openStreams(): Promise<number> {
  const [, count] = /^signalbox_watchers (\d+)$/m.exec(await (await fetch(`${url}/metrics`)).text())!;
  return Number(count);
}

const handshake =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
const requests = {
  SSE: 'GET /v1/events?channel=client.bad HTTP/1.1\r\nHost: localhost\r\n\r\n',
  WebSocket: `GET /v1/ws?channel=client.bad HTTP/1.1\r\nHost: localhost\r\n${handshake}\r\n`,
};
const leaving: Record<string, (socket: Socket) => void> = {
  'half-closes': (socket) => void socket.end(),
  vanishes: (socket) => void socket.resetAndDestroy(),
  'asks again on the same connection, and goes': (socket) => {
    socket.write('GET /v1/events?channel=client.bad HTTP/1.1\r\nHost: localhost\r\n\r\n');
    socket.destroy();
  },
  'says what is no protocol': (socket) => void socket.end(Buffer.alloc(5000, 0xff)),
};

/** Opens a stream by hand, and does something with its socket once the stream is there; resolves when it is closed. */
function leave(text: string, how: (socket: Socket) => void): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => undefined); // it is cut, as it should be
    socket.once('data', () => how(socket));
    socket.resume();
    socket.once('end', () => socket.end());
    socket.once('close', () => resolve());
    socket.write(text);
  });
}

const ways = Object.entries(requests).flatMap(([road, text]) =>
  Object.entries(leaving).map(([name, how]) => ({ road, text, name, how })),
);

test.each(ways)('a watcher over $road that $name gives its place back', async ({ text, how }) => {
  const before = await openStreams();
  await leave(text, how);
  await expect.poll(openStreams).toBe(before);
  await peers.beat();
});

test('HEAD opens no stream', async () => {
  const before = await openStreams();
  const head = await fetch(`${url}/v1/events?channel=client.bad`, { method: 'HEAD' });
  expect([head.status, await head.text(), await openStreams()]).toEqual([200, '', before]);
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      for (const { put, sign } of nasty) await put(forging(sign));
      await told();
      for (const { text, how } of ways) await leave(text, how);
    },
    // Repeats, stored commands and events are kept up to their limits: the first rounds fill them.
    { times: 8, warmUp: 8, settle: () => expect.poll(openStreams).toBe(2), megabytes: 8 },
  );
  await peers.beat();
});
