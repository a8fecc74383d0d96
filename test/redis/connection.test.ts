import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkServer } from '../../src/redis/checks.ts';
import { RedisConnection, script } from '../../src/redis/connection.ts';
import type { RedisConnectionOptions } from '../../src/redis/connection-options.ts';
import type { RedisFact } from '../../src/redis/facts.ts';
import { RedisSubscriber } from '../../src/redis/subscriber.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';
import { stalls } from '../support/stalls.ts';

const echo = script("return redis.call('INCR', KEYS[1]) .. ARGV[1]");

describeNeeding('redis', 'a connection to Redis', () => {
  let server: RedisServer;
  const closers: (() => Promise<unknown>)[] = [];
  const facts: RedisFact[] = [];
  const kinds = () => facts.map(({ kind }) => kind);

  beforeEach(async () => {
    server = await RedisServer.start();
    closers.push(() => server.close());
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
    facts.length = 0;
  });
  const open = async (timeoutMs = 1000) => {
    const connection = await RedisConnection.open({ url: server.url, timeoutMs, observe: (fact) => facts.push(fact) });
    closers.push(() => connection.close());
    return connection;
  };
  const run = async (connection: RedisConnection) => String(await connection.run(echo, ['n'], ['!']));

  test('an address where nobody listens, a wrong password and no address at all are told at once', async () => {
    await server.kill();
    await expect(RedisConnection.open({ url: server.url })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(`127.0.0.1:${server.port}`),
    });
    await server.restart({ settings: { requirepass: 'secret' } });
    await expect(RedisConnection.open({ url: server.url })).rejects.toMatchObject({
      message: expect.stringContaining('wants a password: write redis://:password@host'),
    });
    await expect(RedisConnection.open({ url: `redis://:wrong@127.0.0.1:${server.port}` })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('WRONGPASS'),
    });
    const connection = await RedisConnection.open({ url: `redis://:secret@127.0.0.1:${server.port}` });
    expect(await run(connection)).toBe('1!');
    await connection.close();
    for (const url of ['', 'nonsense', 'http://user:secret@host', 'redis://host/one'])
      await expect(RedisConnection.open({ url })).rejects.toSatisfy(
        (error: Error) => 'code' in error && error.code === 'invalid-argument' && !error.message.includes('secret'),
      );
    await expect(RedisConnection.open({ url: server.url, prefix: '{a}' })).rejects.toMatchObject({
      message: expect.stringContaining('"{a}"'),
    });
  });

  test('a server that is not there yet, or is frozen, is waited for as long as is said; one that refuses us is not', async () => {
    const observe = (fact: RedisFact) => facts.push(fact);
    const opening = (more: Partial<RedisConnectionOptions> = {}) =>
      RedisConnection.open({ url: server.url, connectWithinMs: 60_000, timeoutMs: 200, observe, ...more });
    for (const away of ['killed', 'frozen']) {
      if (away === 'killed') await server.kill();
      else server.freeze();
      const opened = opening({ url: `redis://:secret@127.0.0.1:${server.port}` });
      await until(() => facts.length > 0);
      expect(kinds()).toEqual(['redis-awaited']);
      const [fact] = facts.splice(0) as [Extract<RedisFact, { kind: 'redis-awaited' }>];
      expect(fact.message).toMatch(new RegExp(`^Redis at 127.0.0.1:${server.port} .*60 s at most`));
      expect(fact.message).not.toContain('secret');
      if (away === 'killed') await server.restart({ settings: { requirepass: 'secret' } });
      else server.thaw();
      await (await opened).close();
    }
    await expect(opening()).rejects.toMatchObject({ message: expect.stringContaining('wants a password') });
    await server.kill();
    await expect(opening({ connectWithinMs: 50 })).rejects.toMatchObject({
      message: expect.stringContaining('ECONNREF'),
    });
    const aborter = new AbortController();
    const aborted = opening({ signal: aborter.signal });
    aborter.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('a script that the server has forgotten is sent again', async () => {
    const connection = await open();
    expect(await run(connection)).toBe('1!');
    await server.call('SCRIPT', 'FLUSH');
    expect(await run(connection)).toBe('2!');
  });

  test('a connection that was killed is made again, unnoticed by who calls', async () => {
    const connection = await open();
    await run(connection);
    await server.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    expect(await run(connection)).toBe('2!');
    await until(() => kinds().includes('redis-back'));
    expect(kinds()).toEqual(['redis-lost', 'redis-back']);
  });

  test('while the server is away calls fail with `unavailable`, soon and then at once, and work again after it', async () => {
    const connection = await open(300);
    await server.kill();
    using held = stalls();
    const begun = performance.now();
    await expect(run(connection)).rejects.toMatchObject({ code: 'unavailable', retryAfterMs: 1000 });
    expect(performance.now() - begun).toBeLessThan(2000 + held.ms);
    const states = await Promise.allSettled(Array.from({ length: 100 }, () => run(connection)));
    expect(states.every(({ status }) => status === 'rejected')).toBe(true);
    await server.restart();
    await until(() => connection.isReady);
    expect(await run(connection)).toBe('1!');
    expect(kinds()).toEqual(['redis-lost', 'redis-back']);
  });

  test('a frozen server fails calls in time, and is used again once it goes on', async () => {
    const connection = await open(300);
    await run(connection);
    server.freeze();
    await expect(run(connection)).rejects.toMatchObject({ code: 'unavailable' });
    await until(() => !connection.isReady);
    await expect(run(connection)).rejects.toMatchObject({ code: 'unavailable' });
    server.thaw();
    await until(() => connection.isReady);
    expect(await run(connection)).toMatch(/!$/);
  });

  test('a server that loads what it kept is waited for', async () => {
    const client = server.client();
    const pipeline = client.pipeline();
    for (let i = 0; i < 500; i++) pipeline.set(`k${i}`, 'x'.repeat(100));
    await pipeline.exec();
    client.disconnect();
    const connection = await open(300);
    await server.restartLoading({ 'key-load-delay': '2000', 'loading-process-events-interval-bytes': '1024' });
    await expect(run(connection)).rejects.toMatchObject({ code: 'unavailable' });
    await until(() => connection.isReady);
    expect(await run(connection)).toBe('1!');
  });

  test('a call that is wrong in itself is not made again', async () => {
    const connection = await open();
    await server.call('LPUSH', 'n', '1');
    await expect(run(connection)).rejects.toMatchObject({ code: 'internal', message: expect.stringContaining('keys') });
    await expect(connection.run(script('return nonsense('), [], [])).rejects.toMatchObject({ code: 'internal' });
  });

  test('a full server says that it is full', async () => {
    const connection = await open();
    await run(connection);
    await server.call('CONFIG', 'SET', 'maxmemory', '1');
    await expect(run(connection)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('full'),
    });
    await server.call('CONFIG', 'SET', 'maxmemory', '0');
    expect(await run(connection)).toBe('2!');
  });

  test('a closed connection refuses, and frees those that wait', async () => {
    const connection = await open(5000);
    await server.kill();
    const waiting = run(connection);
    waiting.catch(() => undefined);
    await until(() => !connection.isReady);
    await connection.close();
    await expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
    await expect(run(connection)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('closed'),
    });
  });

  test('a Redis that would lose or throw away what it keeps is refused, with what to do', async () => {
    const connection = await open();
    expect(await checkServer(connection, 'stored')).toEqual([]);
    expect(await checkServer(connection, 'replicated')).toEqual([expect.stringContaining('no replica')]);
    await server.call('CONFIG', 'SET', 'appendfsync', 'no');
    expect(await checkServer(connection, 'stored')).toEqual([expect.stringContaining('appendfsync')]);
    await server.call('CONFIG', 'SET', 'appendonly', 'no');
    await expect(checkServer(connection, 'stored')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('CONFIG SET appendonly yes'),
    });
    expect(await checkServer(connection, 'none')).toEqual([]);
    await server.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    await expect(checkServer(connection, 'none')).rejects.toMatchObject({
      message: expect.stringContaining('maxmemory-policy noeviction'),
    });
    await using replica = await RedisServer.start({ replicaOf: server });
    const other = await RedisConnection.open({ url: replica.url });
    await expect(checkServer(other, 'none')).rejects.toMatchObject({ message: expect.stringContaining('replica of') });
    await other.close();
  });

  test('a subscriber hears what is published, on a connection that may break', async () => {
    const connection = await open();
    const subscriber = new RedisSubscriber(connection);
    const heard: string[] = [];
    let resumed = 0;
    subscriber.onResumed(() => resumed++);
    const release = subscriber.subscribe('news', (message) => heard.push(message));
    await until(() => resumed === 1);
    await until(async () => (await server.call('PUBLISH', 'news', 'one')) === 1);
    await until(() => heard.includes('one'));
    await server.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await until(() => resumed === 2);
    await until(async () => (await server.call('PUBLISH', 'news', 'two')) === 1);
    await until(() => heard.includes('two'));
    release();
    await until(async () => (await server.call('PUBLISH', 'news', 'three')) === 0);
    expect(heard).not.toContain('three');
    subscriber.close();
  });
});
