import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Fastify from 'fastify';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { channelKey } from '../../../src/events/channels.ts';
import { memoryEventLog } from '../../../src/events/memory-event-log.ts';
import { StreamLeases } from '../../../src/leases/index.ts';
import { openRedis } from '../../../src/redis/index.ts';
import {
  directSseResponse,
  initStreaming,
  SSEEmitter,
  type StreamingOptions,
  sendResponse,
  serve,
  sseResponse,
  sseResponseWithLease,
  streaming,
} from '../../../src/server/index.ts';
import { StreamContext } from '../../../src/tasks/index.ts';
import { watch } from '../../gateway/support.ts';
import { fakeOpenSearch } from '../../opensearch/fake-opensearch.ts';
import { describeNeeding } from '../../support/needs.ts';
import { RedisServer } from '../../support/redis.ts';

const fields = { workspaceId: 'w', project: 'p', env: 'test', service: 's' };

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function init(options: Partial<StreamingOptions> = { data: ':memory:' }) {
  const opened = await initStreaming(options);
  closers.push(() => opened.close());
  return opened;
}

/** A plain Node server that answers with what `answer` gives. */
async function listen(answer: (lastEventId: string | undefined) => Promise<Response>): Promise<string> {
  const server = createServer((request, response) => {
    answer(request.headers['last-event-id'] as string | undefined)
      .then((made) => sendResponse(response, made))
      .catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const blocks = (text: string) =>
  text
    .split('\n\n')
    .map((block) => [/^event: (.*)$/m.exec(block)?.[1], /^data: (.*)$/m.exec(block)?.[1]] as const)
    .flatMap(([name, data]) => (data === undefined ? [] : [[name!, JSON.parse(data).data]]));

describe('sseResponse', () => {
  test('carries a stream from its first event to its end, in plain Node, Fastify and as a Web Response', async () => {
    await init();
    const stream = StreamContext.create(fields);
    stream.log('one');
    stream.progress(50);
    const node = await listen(() => sseResponse(stream));
    const app = Fastify();
    app.get('/', () => sseResponse(stream.channelId));
    const fastify = await app.listen({ port: 0, host: '127.0.0.1' });
    closers.push(() => app.close());
    const watchers = await Promise.all([watch(node), watch(fastify)]);
    const web = (await sseResponse(stream)).text();
    for (const each of watchers) {
      expect(each.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
      expect(each.response.headers.get('x-accel-buffering')).toBe('no');
      expect(JSON.parse((await each.event()).data).data).toEqual({ level: 'info', message: 'one', context: fields });
      expect((await each.event()).name).toBe('progress');
    }
    await stream.complete(true);
    for (const each of watchers) expect((await each.rest()).map(({ name }) => name)).toEqual(['done']);
    expect(blocks(await web).map(([name]) => name)).toEqual(['log', 'progress', 'done']);
  });

  test('goes on where the browser was, and answers 204 to one that has seen the end', async () => {
    await init();
    const stream = StreamContext.create(fields);
    for (const message of ['a', 'b', 'c']) await stream.log(message);
    const url = await listen((lastEventId) => sseResponse(stream, { lastEventId }));
    const first = await watch(url);
    const { id } = await first.event();
    first.leave();
    await stream.complete(true);
    const second = await watch(url, { headers: { 'last-event-id': id } });
    const rest = (await second.rest()).filter(({ data }) => data !== '');
    expect(rest.map(({ name }) => name)).toEqual(['log', 'log', 'done']);
    expect((await fetch(url, { headers: { 'last-event-id': rest.at(-1)!.id } })).status).toBe(204);
  });

  test('one that has seen the end is answered 204 also after a restart', async () => {
    const data = mkdtempSync(path.join(tmpdir(), 'signalbox-streams-'));
    onTestFinished(() => rmSync(data, { recursive: true, force: true }));
    const stream = StreamContext.create(fields);
    const answer = (lastEventId?: string) => sseResponse(stream, { lastEventId });
    const first = await init({ data });
    await stream.complete(true);
    const lastId = /id: (.*)\nevent: done/.exec(await (await answer()).text())![1]!;
    await first.close();
    await init({ data });
    expect((await answer(lastId)).status).toBe(204);
    expect(await (await answer()).text()).toContain('event: done');
  });

  test('leads into streams alone, whatever a browser gives for an id; other channels are asked for by name', async () => {
    const log = memoryEventLog();
    const opened = await init({ log });
    log.append('default/user.bob', { type: 'done', data: 'a secret', atMs: 0, durable: false });
    expect(opened.channelOf('user.bob')).toBe('stream:user.bob');
    expect(opened.channelOf('stream:7')).toBe('stream:7');
    const tried = await sseResponse('user.bob', { idleLimitMs: 20, pingMs: 20 });
    expect(await tried.text()).not.toContain('secret');
    expect(await (await sseResponse({ channel: 'user.bob' })).text()).toContain('a secret');
    for (const wrong of ['', 'stream:', undefined, null, 5, {}, 'a/b', 'a b'])
      await expect(sseResponse(wrong as string)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(sseResponseWithLease('', 'ann')).rejects.toThrow('is no stream');
    expect(await opened.leases!.count('ann')).toBe(0);
  });

  test('what was told can be looked for across streams', async () => {
    const data = mkdtempSync(path.join(tmpdir(), 'signalbox-streams-'));
    const opened = await init({ data });
    closers.unshift(async () => rmSync(data, { recursive: true, force: true }));
    for (const text of ['red', 'green', 'reddish']) await StreamContext.create(fields).log(text);
    const query = { tenant: 'default', channels: ['stream:*'], types: ['log'], text: 'RED', limit: 1 };
    const first = await opened.archive!.query(query);
    const second = await opened.archive!.query({ ...query, after: first.next });
    const texts = [first, second].flatMap(({ events }) => events.map(({ data }) => JSON.parse(data).message));
    expect(texts).toEqual(['reddish', 'red']);
  });

  test('finds the streams of its own prefix', async () => {
    await init({ data: ':memory:', channel: { prefix: 'build:' } });
    const stream = StreamContext.create(fields, { channelId: '7' });
    expect(stream.channel).toBe('build:7');
    stream.log('begins');
    await stream.complete(true);
    expect(blocks(await (await sseResponse('7')).text()).map(([name]) => name)).toEqual(['log', 'done']);
  });

  test('says that it is alive while nothing happens, and ends when that has been too long', async () => {
    await init({ data: ':memory:', channel: { pingMs: 20, idleLimitMs: 60 } });
    const response = await sseResponse('quiet');
    const text = await response.text();
    expect(text.match(/^:$/gm)!.length).toBeGreaterThanOrEqual(2);
    expect(text).toContain('event: hub.idle');
  });

  test('a browser that leaves lets go of the stream, and stops nothing', async () => {
    const opened = await init();
    const stream = StreamContext.create(fields);
    const url = await listen(() => sseResponseWithLease(stream, 'ann'));
    const reader = await watch(url);
    await stream.log('x');
    await reader.event();
    expect(await opened.leases!.count('ann')).toBe(1);
    reader.leave();
    await expect.poll(() => opened.leases!.count('ann')).toBe(0);
    await stream.log('goes on');
  });

  test('takes a place of the user, refuses with 429 when there is none, and ends with hub.lease-lost without it', async () => {
    const opened = await init({ data: ':memory:', lease: { limit: 1 } });
    const stream = StreamContext.create(fields);
    const first = await sseResponseWithLease(stream, 'ann');
    const second = await sseResponseWithLease(stream, 'ann');
    expect(second.status).toBe(429);
    expect(Number(second.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await second.json()).toMatchObject({ code: 'stream-limit-exceeded' });
    expect((await sseResponseWithLease(stream, 'bob')).status).toBe(200);
    const [held] = await opened.leases!.list('ann');
    const text = first.text();
    await opened.leases!.release('ann', held!.id);
    expect(await text).toContain('event: hub.lease-lost');
  });
});

describe('directSseResponse', () => {
  async function* tokens(...texts: string[]) {
    yield* texts;
  }

  test('carries what a source yields straight to the browser, each by itself, and then its end', async () => {
    await init();
    const response = await directSseResponse(tokens('Hel', 'lo'));
    expect(blocks(await response.text())).toEqual([
      ['data', 'Hel'],
      ['data', 'lo'],
      ['done', { success: true }],
    ]);
    async function* typed() {
      yield { type: 'error', data: 'soft' };
      yield { n: 1 };
      throw new Error('hard');
    }
    expect(blocks(await (await directSseResponse(typed())).text())).toEqual([
      ['stream.error', 'soft'],
      ['data', { n: 1 }],
      ['done', { success: false, error: 'hard' }],
    ]);
  });

  test('forges nothing: what has the name of an event of the hub is data', async () => {
    await init();
    const items = [
      { type: 'hub.reset', data: 1 },
      { type: 'done', data: 2 },
      { type: 'a\nb', data: 3 },
      { type: 'mine', data: 4 },
    ];
    async function* source() {
      yield* items;
    }
    expect(blocks(await (await directSseResponse(source())).text())).toEqual([
      ...items.slice(0, 3).map((item) => ['data', item]),
      ['mine', 4],
      ['done', { success: true }],
    ]);
    for (const wrong of [undefined, 'text', ['a']])
      await expect(directSseResponse(wrong as never)).rejects.toThrow('needs an async iterable');
  });

  test('lets go of a source that nobody will read, as the user has no place for it', async () => {
    await init({ data: ':memory:', lease: { limit: 1 } });
    const held = await directSseResponse(endless(), { userId: 'ann' });
    let isLeft = false;
    async function* endless() {
      yield 'a';
      await new Promise(() => undefined);
    }
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => undefined),
        return: () => {
          isLeft = true;
          return Promise.reject(new Error('and it complains'));
        },
      }),
    };
    expect((await directSseResponse(source, { userId: 'ann' })).status).toBe(429);
    expect(isLeft).toBe(true);
    await held.body!.cancel();
  });

  test('ends its source when the browser leaves, and gives the place back', async () => {
    const opened = await init();
    const ended = Promise.withResolvers<void>();
    async function* endless() {
      try {
        for (let i = 0; ; i++) {
          await new Promise((resolve) => setImmediate(resolve));
          yield `${i} `;
        }
      } finally {
        ended.resolve();
      }
    }
    const url = await listen(() => directSseResponse(endless(), { userId: 'ann' }));
    const reader = await watch(url);
    await reader.event();
    expect(await opened.leases!.count('ann')).toBe(1);
    reader.leave();
    await ended.promise;
    await expect.poll(() => opened.leases!.count('ann')).toBe(0);
  });

  test('recorded, a reload goes on in the middle of the answer, and the source is read to its end', async () => {
    await init();
    const record = StreamContext.create(fields);
    const go = Promise.withResolvers<void>();
    async function* answer() {
      yield 'The answer ';
      await go.promise;
      yield 'is 42.';
    }
    const url = await listen((lastEventId) =>
      lastEventId ? sseResponse(record, { lastEventId }) : directSseResponse(answer(), { record, rollUpMs: 0 }),
    );
    const first = await watch(url);
    const seen = await first.event();
    expect(JSON.parse(seen.data).data.data).toBe('The answer ');
    first.leave();
    go.resolve();
    const second = await watch(url, { headers: { 'last-event-id': seen.id } });
    const rest = (await second.rest())
      .filter(({ data }) => data !== '')
      .map(({ name, data }) => [name, JSON.parse(data).data.data]);
    expect(rest).toEqual([
      ['data', 'is 42.'],
      ['done', undefined],
    ]);
  });
});

describe('initStreaming', () => {
  test('is needed first, once, and with one place to keep events in', async () => {
    expect(() => streaming()).toThrow('call initStreaming');
    await expect(initStreaming({})).rejects.toThrow('needs one of server, log, data, redis, address; given: none');
    await init();
    await expect(initStreaming({ data: ':memory:' })).rejects.toThrow('was called before');
  });

  test.each([
    [undefined, 'initStreaming is undefined, it has to be an object with: server, log'],
    [{ data: ':memory:', chanel: {} }, 'has no option "chanel", there are:'],
    [{ data: ':memory:', lease: { max: 5 } }, 'lease has no option "max", there are: limit, ttlMs'],
    [{ data: ':memory:', lease: { limit: 0 } }, 'a limit of 0 leases'],
    [{ data: ':memory:', channel: { pingMs: 0 } }, 'channel.pingMs is 0'],
    [{ data: ':memory:', channel: { idleLimitMs: -1 } }, 'channel.idleLimitMs is -1'],
    [{ data: ':memory:', channel: { prefix: 'a/b' } }, '"a/b" is not a channel name'],
    [{ redis: 'redis://127.0.0.1:1' }, 'Redis at 127.0.0.1:1 cannot be reached'],
  ])('refuses %j, and can be called again', async (options, message) => {
    await expect(initStreaming(options as StreamingOptions)).rejects.toThrow(message);
    const [one, two] = await Promise.allSettled([init(), init()]);
    expect([one.status, two.status]).toEqual(['fulfilled', 'rejected']);
  });

  test('with a server, its watchers see the streams of this process, and with an address those of another one', async () => {
    const addresses = { grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' } as const;
    const server = await serve(addresses, { sources: { env: {}, cwd: tmpdir() } });
    onTestFinished(() => server.close());
    const opened = await init({ server });
    const stream = StreamContext.create(fields);
    stream.log('from here');
    await opened.close();

    // As another process would do it, with what it was handed.
    await init({ address: server.grpc[0]! });
    const there = StreamContext.fromJSON(JSON.stringify(stream));
    await Promise.all([there.log('from there'), there.data({ n: 1 }), there.progress(99)]);
    await there.complete(true);
    await expect(sseResponse(there)).rejects.toThrow('keeps no events');
    const reader = await watch(`${server.http[0]}/v1/events?channel=${stream.channel}&from=start`);
    const seen = [];
    for (let i = 0; i < 5; i++) seen.push(await reader.event());
    reader.leave();
    expect(seen.map(({ name }) => name)).toEqual(['log', 'log', 'data', 'progress', 'done']);
    expect(JSON.parse(seen[1]!.data).data).toEqual({ level: 'info', message: 'from there', context: fields });
  });
});

describeNeeding('redis', 'initStreaming with redis', () => {
  test('streams and places are one for all processes', async () => {
    const redis = await RedisServer.start();
    onTestFinished(() => redis.close());
    const search = await fakeOpenSearch();
    onTestFinished(() => search.close());
    const one = await init({ redis: redis.url, lease: { limit: 1 }, archive: { node: search.node, flushMs: 10 } });
    const stream = StreamContext.create(fields);
    await stream.log('from the first');
    // As another process would see it.
    const other = await openRedis({ url: redis.url });
    onTestFinished(() => other.close());
    const { events } = await other.log.read(channelKey('default', stream.channel), { epoch: 0, seq: 0 }, 10);
    expect(events.map(({ type }) => type)).toEqual(['log']);
    const held = await sseResponseWithLease(stream, 'ann');
    const elsewhere = new StreamLeases({ store: other.leases, limit: 1 });
    onTestFinished(() => elsewhere.close());
    expect(await elsewhere.canAcquire('ann')).toBe(false);
    await held.body!.cancel();
    await expect.poll(() => elsewhere.canAcquire('ann')).toBe(true);
    await one.close();
    expect([...search.docs.values()]).toMatchObject([{ channel: stream.channel, type: 'log' }]);
    await expect(initStreaming({ address: '127.0.0.1:1', archive: { node: search.node } })).rejects.toThrow(
      'a server has its own',
    );
  });
});

test('SSEEmitter: the emitter of old, for as many readers as come', async () => {
  const emitter = new SSEEmitter();
  closers.push(() => emitter.close());
  emitter.log('begins');
  emitter.progress(100);
  emitter.emit('custom', 1);
  emitter.complete(true, undefined, { ok: true });
  expect(emitter.isClosed).toBe(true);
  for (let i = 0; i < 2; i++)
    expect(blocks(await (await emitter.response()).text()).map(([name]) => name)).toEqual([
      'log',
      'progress',
      'custom',
      'done',
    ]);
});

test('SSEEmitter on a context: the same words, where initStreaming says', async () => {
  const opened = await init();
  const emitter = new SSEEmitter(StreamContext.create(fields));
  emitter.log('begins');
  emitter.complete(true);
  expect(() => emitter.log('one more word')).toThrow('is complete');
  await emitter.close();
  for (const answer of [emitter.response(), opened.sseResponse(emitter.channelId)])
    expect(blocks(await (await answer).text()).map(([name]) => name)).toEqual(['log', 'done']);
});
