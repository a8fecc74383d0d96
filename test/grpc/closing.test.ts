import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { collect, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { clientOf, connect, connectPath, ended, hello } from './harness.ts';

async function startHub() {
  const hub = new Hub();
  const server = await serveGrpc({ hub, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
  onTestFinished(async () => {
    await server.close({ timeoutMs: 0 });
    await hub.close();
  });
  return { hub, server, address: server.addresses[0]! };
}

test('close() ends devices that never read, silent connections and running commands, and leaves nothing', async () => {
  const { hub, server, address } = await startHub();
  const [host, port] = address.split(':');
  const silent = connectTcp(Number(port), host);
  silent.on('error', () => undefined);
  const blind = connectHttp2(`http://${address}`, { settings: { initialWindowSize: 0 } });
  blind.on('error', () => undefined);
  const stream = blind.request({ ':method': 'POST', ':path': connectPath, 'content-type': 'application/grpc' });
  stream.on('error', () => undefined);
  const frame = hello('pump-8');
  const size = Buffer.alloc(5);
  size.writeUInt32BE(frame.length, 1);
  stream.write(Buffer.concat([size, frame]));
  await scriptedDevice(hub).hello();
  const caller = grpcTransport({ address });
  onTestFinished(() => caller.close());
  const running = caller.send(testCommand())[Symbol.asyncIterator]();
  await running.next();
  await expect.poll(() => hub.clients.isConnected('default', 'pump-8')).toBe(true);
  await expect.poll(() => server.load.connections).toBe(3);

  await server.close({ timeoutMs: 50 });
  expect(server.load).toEqual({ connections: 0, deviceStreams: 0 });
  await expect.poll(() => hub.clients.isConnected('default', 'pump-8')).toBe(false);
  expect(await Promise.allSettled([server.close(), server.close({ timeoutMs: 0 })])).toMatchObject([
    { status: 'fulfilled' },
    { status: 'fulfilled' },
  ]);
});

test('a drained server serves those that are there, and takes no further connection', async () => {
  const { hub, server, address } = await startHub();
  const device = scriptedDevice(hub);
  await device.hello();
  const caller = grpcTransport({ address });
  onTestFinished(() => caller.close());
  const first = collect(caller.send(testCommand()));
  device.succeed((await device.command()).id);
  await first;
  server.drain();
  const second = collect(caller.send(testCommand()));
  device.succeed((await device.command(2)).id);
  expect((await second).at(-1)?.state).toBe('succeeded');
  const late = grpcTransport({ address, channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  onTestFinished(() => late.close());
  await expect(collect(late.send(testCommand()))).rejects.toMatchObject({ code: 'unavailable' });
});

test('devices are told the end of their stream when the server closes', async () => {
  const { hub, server, address } = await startHub();
  const call = connect(clientOf(address));
  call.write(hello('pump-8'));
  const end = ended(call);
  const welcomed = once(call, 'data');
  call.resume();
  await welcomed;
  expect(hub.clients.isConnected('default', 'pump-8')).toBe(true);
  await server.close();
  expect((await end).code).toBe(0);
  expect(hub.clients.isConnected('default', 'pump-8')).toBe(false);
});

test('transports that were closed leave no socket behind, whatever they were doing', async () => {
  const { hub, server, address } = await startHub();
  await scriptedDevice(hub).hello();
  const channelOptions = { 'grpc.use_local_subchannel_pool': 1 };
  const endings: Promise<unknown>[] = [];
  for (let i = 0; i < 10; i++) {
    const transport = grpcTransport({ address, channelOptions });
    const running = collect(transport.send(testCommand())).catch(() => undefined);
    for await (const _ of transport.send(testCommand())) break;
    endings.push(running, transport.close());
  }
  await Promise.all(endings);
  await expect.poll(() => server.load.connections).toBe(0);
});

test('connections that wait to be taken when a server stops are served, the next ones are refused', async () => {
  const { server, address } = await startHub();
  const port = Number(address.split(':')[1]);
  const answers = Array.from({ length: 20 }, async () => {
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    onTestFinished(() => client.destroy());
    await once(client, 'remoteSettings');
  });
  // So that they are made, and none of them is taken yet.
  await Promise.resolve();
  server.drain();
  await Promise.all(answers);
  const late = connectTcp(port, '127.0.0.1');
  await expect(once(late, 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});
