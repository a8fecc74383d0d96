import { afterEach, expect, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { hubClients } from '../../src/grpc/hub-clients.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { collect, faultProxy, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { authenticatorOf, principal } from './fake-hub.ts';

const nobody = '127.0.0.1:1';
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** One hub, and as many servers in front of it as there are nodes. */
async function serve(count: number): Promise<{ hub: Hub; servers: GrpcServer[]; addresses: string[] }> {
  const hub = new Hub({ commands: memoryCommandStore() });
  closing.push(() => hub.close());
  const servers: GrpcServer[] = [];
  for (let i = 0; i < count; i++) {
    const authenticator = authenticatorOf(() => principal());
    const server = await serveGrpc({ hub, authenticator, addresses: ['127.0.0.1:0'] });
    closing.push(() => server.close({ timeoutMs: 0 }));
    servers.push(server);
  }
  return { hub, servers, addresses: servers.map(({ addresses: [address] }) => address!) };
}

test.each([0, 0.99])('a caller is served by whichever hub is there (chance %s)', async (chance) => {
  const { hub, addresses } = await serve(1);
  const device = scriptedDevice(hub);
  await device.hello();
  const transport = grpcTransport({ address: [nobody, addresses[0]!], random: () => chance });
  closing.push(() => transport.close());
  const updates = collect(transport.send(testCommand()));
  device.succeed((await device.command()).id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  const services = hubClients({ address: `${nobody},${addresses[0]}` });
  closing.push(() => services.close());
  expect((await services.clients.listClients({ labels: {}, connectedOnly: true })).clients).toHaveLength(1);
});

test('a command is followed at another hub when the first is gone, and a cancel finds it there', async () => {
  const { hub, servers, addresses } = await serve(2);
  const device = scriptedDevice(hub);
  await device.hello();
  const transport = grpcTransport({ address: addresses, random: () => 0.5 });
  closing.push(() => transport.close());
  const aborter = new AbortController();
  const [first, second] = [testCommand(), testCommand()];
  const updates = collect(transport.send(first));
  const cancelled = collect(transport.send(second, { signal: aborter.signal }));
  await device.command(2);
  const used = servers.find(({ load }) => load.connections > 0)!;
  await used.close({ timeoutMs: 0 });
  device.succeed(first.id);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  aborter.abort();
  await device.next((frame) => frame.body?.$case === 'cancel' && frame.body.value.commandId === second.id);
  device.end(second.id, 'cancelled');
  expect((await cancelled).at(-1)).toMatchObject({ state: 'cancelled' });
});

test('many that are lost at once go on at another hub together, and not back to the first by turns', async () => {
  const { hub, servers, addresses } = await serve(2);
  const device = scriptedDevice(hub);
  await device.hello();
  const transport = grpcTransport({ address: addresses, random: () => 0 });
  closing.push(() => transport.close());
  // An even number: each moves on from the hub that it was at, and not from where another one has moved to.
  const commands = Array.from({ length: 4 }, () => testCommand());
  const ends = Promise.all(commands.map((command) => collect(transport.send(command))));
  await device.command(4);
  await servers.find(({ load }) => load.connections > 0)!.close({ timeoutMs: 0 });
  for (const { id } of commands) device.succeed(id);
  for (const updates of await ends) expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
});

test('where no hub can be reached, the error names them all, soon', async () => {
  const transport = grpcTransport({ address: [nobody, '127.0.0.1:2'] });
  closing.push(() => transport.close());
  const error = await collect(transport.send(testCommand())).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining(`${nobody},127.0.0.1:2`) });
  expect(() => grpcTransport({ address: [] })).toThrow(/host:port/);
  expect(() => grpcTransport({ address: 'good:1,bad' })).toThrow(/bad/);
});

test('a device goes on to the next hub with each attempt', async () => {
  const { hub, addresses } = await serve(2);
  const proxy = await faultProxy({ target: () => addresses[0]! });
  closing.push(() => proxy.close());
  const device = await connectDevice({
    address: `${nobody}, ${proxy.address}, ${addresses[1]}`,
    clientId: 'pump-7',
    backoff: { minMs: 1, maxMs: 5 },
    random: () => 0,
  });
  closing.push(() => device.close({ timeoutMs: 0 }));
  expect(proxy.counts.accepted).toBe(1);
  const back = new Promise<void>((resolve) => {
    device.onStateChange(({ kind }) => kind === 'connected' && resolve());
  });
  proxy.cutAll();
  await back;
  expect(proxy.counts.accepted).toBe(1);
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(true);
});
