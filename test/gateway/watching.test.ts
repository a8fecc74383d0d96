import { request } from 'node:http';
import { expect, test } from 'vitest';
import { type Road, watchingContract } from '../contracts/watching.ts';
import { raw, rig, SseReader } from './support.ts';
import { WsClient } from './ws-client.ts';

const sse: Road = {
  open: (url, query, headers = {}) =>
    new Promise((resolve, reject) => {
      const asked = request(`${url}/v1/events?${query}`, { headers, agent: false }, async (response) => {
        if (response.statusCode !== 200) {
          let body = '';
          for await (const chunk of response) body += chunk;
          reject(new Error(`${response.statusCode} ${body}`));
          return;
        }
        const body = new ReadableStream({
          start(controller) {
            response.on('data', (chunk) => controller.enqueue(chunk));
            response.on('close', () => controller.close());
            response.on('error', () => undefined);
          },
        });
        const reader = new SseReader(new Response(body), new AbortController());
        const opening = await reader.next();
        resolve({
          openingId: opening!.id,
          retryMs: opening!.retry!,
          async next() {
            for (;;) {
              const event = await reader.next();
              if (event === undefined) return undefined;
              if (event.data !== '') return { id: event.id, name: event.name, data: JSON.parse(event.data) };
            }
          },
          stopReading: () => void response.socket.pause(),
          leave: () => void asked.destroy(),
        });
      });
      asked.on('error', reject);
      asked.end();
    }),
};

const ws: Road = {
  async open(url, query, headers = {}) {
    const client = await WsClient.open(`${url}/v1/ws?${query}`, headers);
    const opening = await client.next();
    expect(opening!.event).toBe('hub.open');
    return {
      openingId: opening!.id!,
      retryMs: opening!.retryMs!,
      async next() {
        const message = await client.next();
        return message && { id: message.id ?? '', name: message.event, data: message.data };
      },
      stopReading: () => void client.socket.pause(),
      leave: () => client.leave(),
    };
  },
};

watchingContract('SSE', sse);
watchingContract('WebSocket', ws);

test('a WebSocket is pinged while nothing happens, answers pings, and says goodbye', async () => {
  await using at = await rig({ limits: { keepaliveMs: 50 } });
  const client = await WsClient.open(`${at.url}/v1/ws?channel=fleet`);
  await expect.poll(() => client.pings).toBeGreaterThan(1);
  client.send(9, Buffer.from('are you there'));
  await expect.poll(() => client.pongs).toEqual(['are you there']);
  client.send(8, Buffer.from([0x03, 0xe8]));
  while ((await client.next()) !== undefined);
  expect(client.closeCode).toBe(1000);
  await expect.poll(() => at.gateway.openStreams).toBe(0);
});

test.each([
  ['a frame without a mask', Buffer.from([0x81, 0x01, 0x41]), 1002],
  ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0]), 1002],
  ['an opcode that is none', Buffer.from([0x83, 0x80, 0, 0, 0, 0]), 1002],
  ['a ping in pieces', Buffer.from([0x09, 0x80, 0, 0, 0, 0]), 1002],
  ['a message of gigabytes', Buffer.from([0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]), 1009],
  ['a message beyond the limit', Buffer.from([0x82, 0xfe, 0xff, 0xff]), 1009],
])('%s ends its WebSocket and nothing else', async (_, bytes, code) => {
  await using at = await rig();
  const bad = await WsClient.open(`${at.url}/v1/ws?channel=fleet`);
  const good = await WsClient.open(`${at.url}/v1/ws?channel=fleet`);
  bad.socket.write(bytes);
  while ((await bad.next()) !== undefined);
  expect(bad.closeCode).toBe(code);
  good.send(1, Buffer.from('what a watcher says is not looked at'));
  at.append('fleet', 'client.connected', 1);
  await good.next();
  expect(await good.next()).toMatchObject({ event: 'client.connected' });
  good.leave();
});

test('what is no WebSocket handshake gets a problem, and an upgrade to something else is answered like any request', async () => {
  await using at = await rig();
  const plain = await fetch(`${at.url}/v1/ws?channel=fleet`);
  expect([plain.status, plain.headers.get('upgrade')]).toEqual([426, 'websocket']);
  expect(await plain.json()).toMatchObject({ code: 'upgrade-required' });
  const lines = ['Host: localhost', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 8'];
  const old = await raw(at.port, `GET /v1/ws?channel=fleet HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  expect(old).toMatch(/^HTTP\/1.1 400 [\s\S]*sec-websocket-version: 13/i);
  const other = await raw(
    at.port,
    'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  );
  expect(other).toMatch(/^HTTP\/1.1 200 [\s\S]*\{"ok":true\}$/);
  expect(
    await raw(at.port, 'GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
  ).toMatch(/^HTTP\/1.1 404 /);
});

test("the browser's own WebSocket works, with a ticket", async () => {
  await using at = await rig();
  const { ticket } = (await (await fetch(`${at.url}/v1/tickets`, { method: 'POST' })).json()) as { ticket: string };
  const socket = new WebSocket(`${at.url.replace('http', 'ws')}/v1/ws?channel=fleet&ticket=${ticket}`);
  const messages: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.onmessage = ({ data }) => {
    messages.push(JSON.parse(data as string).event);
    if (messages.length === 1) at.append('fleet', 'client.connected', 'x'.repeat(70_000));
    else resolve();
  };
  await promise;
  socket.close();
  expect(messages).toEqual(['hub.open', 'client.connected']);
});
