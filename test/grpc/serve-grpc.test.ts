import { once } from 'node:events';
import { connect as connectHttp2, constants, sensitiveHeaders } from 'node:http2';
import { Client, credentials, status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { http2StreamOf } from '../../src/grpc/grpc-js-call.ts';
import { decodeDown, encodeUp } from '../../src/protocol/frames.ts';
import { virtualClock } from '../../src/testing/index.ts';
import { authenticatorOf, principal } from './fake-hub.ts';
import { asIs, connect, connectPath, ended, hello, helloOf, metadataOf, start } from './harness.ts';

const filler = (bytes: number) => ({
  seq: 1,
  ack: 0,
  body: {
    $case: 'command' as const,
    value: {
      id: 'c',
      payload: { type: 't', value: new Uint8Array(bytes) },
      startWithinMs: 0,
      finishWithinMs: 0,
      idempotent: false,
      orderingKey: '',
      traceparent: '',
    },
  },
});

describe('a device stream', () => {
  test('is handed to the hub with the identity of its credential, frames in order', async () => {
    const { hub, client } = await start({
      authenticator: authenticatorOf((token) => principal({ tenant: 'acme', clientId: token, expiresAtMs: 9e12 })),
    });
    const call = connect(client, { authorization: 'Bearer pump-7' });
    call.write(hello('pump-7'));
    for (let nonce = 1; nonce <= 40; nonce++)
      call.write(encodeUp({ seq: 0, ack: 0, body: { $case: 'ping', value: { nonce } } }));
    await hub.until(() => hub.taken.length === 1);
    const taken = hub.taken[0]!;
    await taken.until(({ frames }) => frames.length === 41);
    expect(taken.identity).toEqual({ tenant: 'acme', clientId: 'pump-7', expiresAtMs: 9e12 });
    expect(taken.frames[0]).toEqual(helloOf('pump-7'));
    expect(taken.frames.slice(1).map((f) => f.body?.$case === 'ping' && f.body.value.nonce)).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    const got: number[] = [];
    call.on('data', (bytes: Buffer) => got.push(decodeDown(bytes).seq));
    const end = ended(call);
    for (let seq = 1; seq <= 100; seq++) taken.stream.send({ seq, ack: 0, body: undefined });
    taken.stream.close();
    expect((await end).code).toBe(status.OK);
    expect(got).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    await taken.until(({ closed }) => closed > 0);
    expect(taken.closed).toBe(1);
  });

  test.each([
    ['wants nothing special', {}, {}],
    ['has a deadline', {}, { deadline: Date.now() + 3_600_000 }],
    ['compresses its messages', { 'grpc.default_compression_algorithm': 2 }, {}],
  ])('is served the same whether it %s', async (_, channelOptions, callOptions) => {
    const { hub, server } = await start();
    const client = new Client(server.addresses[0]!, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      ...channelOptions,
    });
    onTestFinished(() => client.close());
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(connectPath, asIs, asIs, callOptions);
    const end = ended(call);
    const came = once(call, 'data');
    call.write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    const taken = hub.taken[0]!;
    await taken.until(({ frames }) => frames.length === 1);
    expect(taken.frames).toEqual([helloOf('pump-7')]);
    expect(server.load.deviceStreams).toBe(1);
    taken.stream.send({ seq: 1, ack: 0, body: undefined });
    expect(decodeDown((await came)[0]).seq).toBe(1);
    call.end();
    expect(await end).toMatchObject({ code: status.OK, details: 'OK' });
    await taken.until(({ closed }) => closed === 1);
    expect(server.load.deviceStreams).toBe(0);
  });

  test('gets the same headers whether grpc-js serves it or not', async () => {
    const { server } = await start();
    const session = connectHttp2(`http://${server.addresses[0]}`);
    onTestFinished(() => session.destroy());
    const head = { ':method': 'POST', ':path': connectPath, 'content-type': 'application/grpc' };
    const answers = [head, { ...head, 'grpc-timeout': '1H' }].map(async (headers) => {
      const [{ date: _, ...answer }] = await once(session.request(headers), 'response');
      return answer;
    });
    const [plain, byGrpcJs] = await Promise.all(answers);
    expect(plain).toMatchObject({ ':status': 200, 'grpc-accept-encoding': 'identity,deflate,gzip' });
    expect({ ...plain, [sensitiveHeaders]: [] }).toEqual({ ...byGrpcJs, [sensitiveHeaders]: [] });
  });

  test('gets its headers before its credential is known', async () => {
    let letIn: () => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      letIn = resolve;
    });
    const { hub, client } = await start({
      authenticator: { authenticate: () => asked.then(() => principal()) },
    });
    const call = connect(client);
    await new Promise((resolve) => call.once('metadata', resolve));
    for (let i = 0; i < 30; i++) call.write(hello(`pump-${i}`));
    expect(hub.taken).toEqual([]);
    letIn();
    await hub.until(() => hub.taken.length === 1);
    await hub.taken[0]!.until(({ frames }) => frames.length === 30);
  });

  test.each([
    [
      'a credential that is refused',
      () => {
        throw new HubError('unauthenticated', 'no token');
      },
      'unauthenticated',
      status.UNAUTHENTICATED,
    ],
    [
      'a credential without the scope device',
      () => principal({ scopes: new Set(['commands:send']) }),
      'permission-denied',
      status.PERMISSION_DENIED,
    ],
  ] as const)('of %s ends with a status and reaches no hub', async (_, of, code, grpcCode) => {
    const { hub, client, facts } = await start({ authenticator: authenticatorOf(of) });
    const end = await ended(connect(client).resume());
    expect(end.code).toBe(grpcCode);
    expect(end.metadata.get('signalbox-code')).toEqual([code]);
    expect(hub.taken).toEqual([]);
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-call-failed', code }));
  });

  test('that sends no frame in time is ended, saying so', async () => {
    const clock = virtualClock();
    const { hub, client } = await start({ clock, limits: { firstFrameMs: 50 } });
    const end = ended(connect(client).resume());
    await hub.until(() => hub.taken.length === 1);
    await clock.advance(50);
    expect(await end).toMatchObject({ code: status.DEADLINE_EXCEEDED, details: 'no frame came within 50 ms' });
    await hub.taken[0]!.until(({ closed }) => closed === 1);
  });

  test('with bytes that are no frame tells the hub, and lives until the hub decides', async () => {
    const { hub, client } = await start();
    const call = connect(client);
    call.write(Buffer.from([0xff, 0xff, 0xff]));
    call.write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    await hub.taken[0]!.until(({ frames }) => frames.length === 1);
    expect(hub.taken[0]!.malformed).toHaveLength(1);
  });

  test('on which the hub itself stumbles is reset, and the others live', async () => {
    const { hub, client, facts } = await start();
    const other = connect(client);
    other.write(hello('pump-8'));
    await hub.until(() => hub.taken.length === 1);
    const call = connect(client);
    const end = ended(call.resume());
    await hub.until(() => hub.taken.length === 2);
    hub.taken[1]!.onFrameThrows = new Error('a bug');
    call.write(hello('pump-7'));
    expect((await end).code).not.toBe(status.OK);
    expect(facts).toContainEqual(
      expect.objectContaining({ kind: 'grpc-call-failed', code: 'internal', message: 'a bug' }),
    );
    other.write(hello('again'));
    await hub.taken[0]!.until(({ frames }) => frames.length === 2);
  });

  test('that the device half-closes is over', async () => {
    const { hub, client } = await start();
    const call = connect(client);
    call.write(hello('pump-7'));
    const end = ended(call.resume());
    call.end();
    expect((await end).code).toBe(status.OK);
    await hub.taken[0]!.until(({ closed }) => closed === 1);
  });

  test('whose connection is cut is over, once', async () => {
    const { hub, client } = await start();
    const call = connect(client);
    call.write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    call.cancel();
    await hub.taken[0]!.until(({ closed }) => closed === 1);
    expect(hub.taken[0]!.stream.send(filler(1))).toBe(false);
    hub.taken[0]!.stream.close();
    hub.taken[0]!.stream.reset();
    expect(hub.taken[0]!.closed).toBe(1);
  });

  test('says when it is full, and again when it can take more', async () => {
    const { hub, client } = await start();
    const call = connect(client).pause();
    call.write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    const taken = hub.taken[0]!;
    let sent = 0;
    while (sent < 10_000 && taken.stream.send(filler(10_000))) sent++;
    expect(sent).toBeLessThan(10_000);
    const got: number[] = [];
    call.on('data', (bytes: Buffer) => got.push(bytes.length));
    await taken.until(({ writable }) => writable > 0);
    expect(taken.stream.send(filler(1))).toBe(true);
  });

  test('of a peer that never reads can be reset, and healthy traffic beside it goes on', async () => {
    const { hub, client } = await start();
    const stalled = connect(client).pause();
    const end = ended(stalled);
    stalled.write(hello('stalled'));
    await hub.until(() => hub.taken.length === 1);
    const healthy = connect(client);
    healthy.write(hello('healthy'));
    await hub.until(() => hub.taken.length === 2);
    const [first, second] = hub.taken;
    // Far beyond the window of the stream: what is queued can never be written.
    for (let i = 0; i < 200; i++) first!.stream.send(filler(10_000));
    first!.stream.reset();
    await first!.until(({ closed }) => closed === 1);
    const got = new Promise<Buffer>((resolve) => healthy.once('data', resolve));
    second!.stream.send({ seq: 7, ack: 0, body: undefined });
    expect(decodeDown(await got).seq).toBe(7);
    stalled.resume();
    expect((await end).code).not.toBe(status.OK);
  });

  test('whose peer does not read its end is reset after a while', async () => {
    const { hub, client, server } = await start();
    const stalled = connect(client).pause();
    stalled.write(hello('stalled'));
    await hub.until(() => hub.taken.length === 1);
    for (let i = 0; i < 200; i++) hub.taken[0]!.stream.send(filler(10_000));
    hub.taken[0]!.stream.close();
    await server.close({ timeoutMs: 10 });
    expect(hub.taken[0]!.closed).toBe(1);
  });
});

describe('the server', () => {
  test('still finds the http2 stream of a call where grpc-js keeps it', async () => {
    const { hub, client } = await start();
    connect(client).write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    expect(hub.taken[0]!.stream.peer).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(() => http2StreamOf({ call: {} })).toThrow('call.call.stream');
    expect(constants.NGHTTP2_CANCEL).toBe(8);
  });

  test('closes with devices connected, in bounded time, and may be closed twice', async () => {
    const { hub, client, server } = await start();
    const calls = Array.from({ length: 5 }, () => connect(client));
    for (const call of calls) call.resume().write(hello('x'));
    await hub.until(() => hub.taken.length === 5);
    const ends = Promise.all(calls.map((call) => ended(call)));
    await server.close({ timeoutMs: 2_000 });
    await server.close();
    await ends;
    expect(hub.taken.every(({ closed }) => closed === 1)).toBe(true);
  });

  test('refuses the same method twice, and no address, by name', async () => {
    await expect(start({ addresses: [] })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(start({ limits: { maxMessageBytes: 0 } })).rejects.toThrow('limits.maxMessageBytes is 0');
    await expect(start({ addresses: ['nonsense'] })).rejects.toThrow('"nonsense" is not of the form host:port');
    const { server } = await start();
    await expect(start({ addresses: [server.addresses[0]!] })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('in use'),
    });
  });

  test('a message over the limit ends its call and nothing else', async () => {
    const { hub, client } = await start({ limits: { maxMessageBytes: 1_000 } });
    const fine = connect(client);
    fine.write(hello('fine'));
    await hub.until(() => hub.taken.length === 1);
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(connectPath, asIs, asIs, metadataOf({}));
    call.on('error', () => undefined);
    call.resume().write(Buffer.alloc(1_001));
    expect((await ended(call)).code).toBe(status.RESOURCE_EXHAUSTED);
    fine.write(hello('again'));
    await hub.taken[0]!.until(({ frames }) => frames.length === 2);
  });
});
