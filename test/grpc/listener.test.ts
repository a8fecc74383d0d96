import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, connect as http2Connect } from 'node:http2';
import { connect as connectSocket, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseAddress } from '../../src/grpc/listener.ts';
import { clientOf, connect, hello, start, unary } from './harness.ts';

function dial(address: string): Socket {
  const [host, port] = address.split(':');
  const socket = connectSocket(Number(port), host);
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

async function all(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString('latin1');
}

describe('a connection', () => {
  test('that speaks HTTP/1.1 is told what this port is, and closed', async () => {
    const { server, facts } = await start();
    const socket = dial(server.addresses[0]!);
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(await all(socket)).toMatch(/^HTTP\/1\.1 505 [\s\S]*gRPC over HTTP\/2 only/);
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-connection-refused', reason: 'not-http2' }));
  });

  test.each([
    ['says nothing', ''],
    ['says half a preface', 'PRI * HTTP/2.0\r\n\r\nSM'],
  ])('that %s is closed in time', async (_, text) => {
    const { server, facts } = await start({ limits: { firstFrameMs: 50 } });
    const socket = dial(server.addresses[0]!);
    socket.write(text);
    expect(await all(socket)).toBe('');
    expect(facts).toContainEqual(expect.objectContaining({ kind: 'grpc-connection-refused', reason: 'silent' }));
  });

  test('whose preface comes byte by byte is served', async () => {
    const { server } = await start();
    const socket = dial(server.addresses[0]!);
    socket.setNoDelay(true);
    const bytes = Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]);
    const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
    for (const byte of bytes) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    // A SETTINGS frame: type 4 on stream 0.
    expect((await answer)[3]).toBe(4);
  });

  test('above the limit is closed at once', async () => {
    const { server, hub, client } = await start({ limits: { maxConnections: 1 } });
    connect(client).write(hello('first'));
    await hub.until(() => hub.taken.length === 1);
    expect(await all(dial(server.addresses[0]!))).toBe('');
  });

  test.each([
    ['garbage after the preface', Buffer.from('\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff', 'latin1')],
    ['a frame of 16 MiB', Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])],
  ])('with %s is closed, and the others live', async (_, bytes) => {
    const { server, hub, client } = await start();
    const socket = dial(server.addresses[0]!);
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), bytes]));
    await all(socket);
    connect(client).write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
  });
});

describe('a request', () => {
  test('for a method that nobody serves is unimplemented', async () => {
    const { client } = await start();
    expect(await unary(client, '/signalbox.v1.CommandService/Explode')).toMatchObject({ code: status.UNIMPLEMENTED });
  });

  test('with more metadata than it can need is refused', async () => {
    const { client } = await start({ limits: { maxHeaderBytes: 1_000 } });
    const answer = await unary(client, '/signalbox.v1.ClientService/ListClients', undefined, { x: 'y'.repeat(1_001) });
    expect(answer).toMatchObject({ code: status.RESOURCE_EXHAUSTED, details: expect.stringContaining('1000') });
  });

  test.each([
    ['bytes that are no message', Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]), {}, ['13']],
    ['a message that is shorter than it says', Buffer.from([0, 0, 0, 0, 9, 1]), {}, ['3']],
    ['a compressed message that is none', Buffer.from([1, 0, 0, 0, 1, 1]), { 'grpc-encoding': 'gzip' }, ['13']],
    ['an encoding that nobody knows', Buffer.from([1, 0, 0, 0, 1, 1]), { 'grpc-encoding': 'zip' }, ['12']],
    ['a deadline that is no time', Buffer.from([0, 0, 0, 0, 0]), { 'grpc-timeout': 'soon' }, ['3']],
  ])('with %s ends with an error status, and the next one is served', async (_, body, headers, codes) => {
    const { server, client } = await start();
    const session = http2Connect(`http://${server.addresses[0]}`);
    onTestFinished(() => session.destroy());
    const request = session.request({
      ':method': 'POST',
      ':path': '/signalbox.v1.ClientService/ListClients',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    request.on('error', () => undefined);
    const code = new Promise<unknown>((resolve) => {
      request.on('response', (head) => head['grpc-status'] !== undefined && resolve(head['grpc-status']));
      request.on('trailers', (trailers) => resolve(trailers['grpc-status']));
      request.on('close', () => resolve(`closed ${request.rstCode}`));
    });
    request.end(body);
    request.resume();
    expect(codes).toContain(await code);
    expect(await unary(client, '/signalbox.v1.ClientService/ListClients')).toBeInstanceOf(Buffer);
  });

  test('that is not gRPC is answered 415', async () => {
    const { server } = await start();
    const session = http2Connect(`http://${server.addresses[0]}`);
    onTestFinished(() => session.destroy());
    const request = session.request({ ':path': '/', 'content-type': 'text/html' });
    const code = await new Promise((resolve) =>
      request.on('response', (head) => resolve(head[constants.HTTP2_HEADER_STATUS])),
    );
    expect(code).toBe(415);
  });
});

describe('a Unix socket', () => {
  const path = (): string => {
    const directory = mkdtempSync(join(tmpdir(), 'signalbox-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    return join(directory, 'hub.sock');
  };

  test('serves, and its file goes with the server', async () => {
    const file = path();
    const { hub, server } = await start({ addresses: [`unix://${file}`] });
    expect(server.addresses).toEqual([`unix://${file}`]);
    expect(statSync(file).mode & 0o777).toBe(0o660);
    connect(clientOf(`unix://${file}`)).write(hello('pump-7'));
    await hub.until(() => hub.taken.length === 1);
    await server.close({ timeoutMs: 100 });
    expect(existsSync(file)).toBe(false);
  });

  test('that another process listens on is refused; the file of a dead one is replaced', async () => {
    const file = path();
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(file, resolve));
    await expect(start({ addresses: [`unix://${file}`] })).rejects.toThrow(`unix://${file} is in use`);
    await new Promise((resolve) => other.close(resolve));
    // A process that is killed leaves its file.
    const script = `require('net').createServer().listen(${JSON.stringify(file)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    expect(existsSync(file)).toBe(true);
    await start({ addresses: [`unix://${file}`] });
  });

  test('in a directory that is not there is refused by the name of that directory', async () => {
    const file = join(path(), 'hub.sock');
    await expect(start({ addresses: [`unix://${file}`] })).rejects.toThrow(`there is no directory ${dirname(file)}`);
  });

  test('never takes the place of a file that is something else', async () => {
    const file = path();
    writeFileSync(file, 'precious');
    await expect(start({ addresses: [`unix://${file}`] })).rejects.toMatchObject({ code: 'unavailable' });
    expect(existsSync(file)).toBe(true);
  });
});

describe('an address', () => {
  test.each([
    ['127.0.0.1:0', { kind: 'tcp', host: '127.0.0.1', port: 0 }],
    ['[::1]:50051', { kind: 'tcp', host: '::1', port: 50051 }],
    ['unix:///run/x.sock', { kind: 'unix', path: '/run/x.sock' }],
  ])('%s is understood', (address, parsed) => expect(parseAddress(address)).toEqual(parsed));

  test.each(['', 'x', 'x:', ':1', 'x:99999', 'x:y', 'unix:/x', 'unix://x', 'http://x:1', `unix:///${'x'.repeat(200)}`])(
    '"%s" is refused',
    (address) => expect(() => parseAddress(address)).toThrow(expect.objectContaining({ code: 'invalid-argument' })),
  );
});
