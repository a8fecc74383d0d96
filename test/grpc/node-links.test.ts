import { afterEach, expect, test } from 'vitest';
import { LinkBroken, type NodeInfo, type NodeLink, nodeEnd } from '../../src/cluster/index.ts';
import { grpcNodeLinks } from '../../src/grpc/node-links.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { collect, faultProxy, scriptedDevice, testCommand } from '../../src/testing/index.ts';
import { authenticatorOf, principal } from './fake-hub.ts';

const secret = 'a secret of thirty-two bytes or more';
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Opened {
  readonly hub: Hub;
  readonly server: GrpcServer;
  readonly node: NodeInfo;
}

async function open(end?: (hub: Hub) => NodeLink): Promise<Opened> {
  const hub = new Hub({ commands: memoryCommandStore(), node: 'b' });
  closing.push(() => hub.close());
  const server = await serveGrpc({
    hub,
    authenticator: authenticatorOf(() => principal()),
    addresses: ['127.0.0.1:0'],
    nodes: { end: end?.(hub) ?? nodeEnd(hub), secret, isOwn: (instance) => instance === 'b-1' },
  });
  closing.push(() => server.close({ timeoutMs: 0 }));
  const load = { sessions: 0, isDraining: false };
  const address = server.addresses[0]!;
  return { hub, server, node: { id: 'b', instance: 'b-1', address, version: 'test', startedAtMs: 0, load } };
}

function linkTo(node: NodeInfo, options: Partial<Parameters<typeof grpcNodeLinks>[0]> = {}): NodeLink {
  const links = grpcNodeLinks({ secret, instance: () => 'a-1', ...options });
  closing.push(() => links.close());
  return links.to(node);
}

test('all that a node asks is answered over one link, many at once', async () => {
  const { hub, node, server } = await open();
  const link = linkTo(node);
  const device = scriptedDevice(hub);
  await device.hello();
  const commands = Array.from({ length: 200 }, (_, i) =>
    testCommand({ payload: { type: 'test.Do', value: new Uint8Array(i * 40) } }),
  );
  const ends = commands.map((command, i) => (i % 2 ? link.settle(command) : collect(link.send(command))));
  for (let n = 1; n <= 200; n++) device.succeed((await device.command(n)).id);
  for (const [i, end] of ends.entries()) {
    const last = await end;
    expect(Array.isArray(last) ? last.map(({ state }) => state) : last.state).toEqual(
      i % 2 ? 'succeeded' : ['queued', 'sent', 'delivered', 'succeeded'],
    );
  }
  expect(device.commands.map(({ id }) => id)).toEqual(commands.map(({ id }) => id));
  expect(server.load.connections).toBe(1);
  const { id } = commands[7]!;
  const { command } = await link.get('default', id);
  expect([command.id, command.payload.value.length]).toEqual([id, 280]);
  expect(await link.list({ tenant: 'default', clientId: 'pump-7', limit: 3 })).toHaveLength(3);
  expect(await link.client({ tenant: 'default', clientId: 'pump-7' })).toMatchObject({ connected: true });
  expect(await link.client({ tenant: 'default', clientId: 'pump-8' })).toBeUndefined();
  expect(await link.disconnect({ tenant: 'default', clientId: 'pump-7' }, { reason: 'x', mayReconnect: true })).toBe(
    true,
  );
  await expect(link.get('default', 'nobody-knows')).rejects.toMatchObject({ code: 'not-found' });
  await expect(link.settle(testCommand())).rejects.toMatchObject({ code: 'client-offline' });
});

test('a large payload goes alone, and costs the others on the link nothing', async () => {
  const { hub, node } = await open();
  const link = linkTo(node);
  const device = scriptedDevice(hub);
  await device.hello();
  const sizes = [200_000, 1024 * 1024, 10, 200_000, 1024 * 1024];
  const ends = sizes.map((size) =>
    link.settle(testCommand({ payload: { type: 'test.Do', value: new Uint8Array(size) } })),
  );
  for (const [i, size] of sizes.entries()) {
    const command = await device.command(i + 1);
    expect(command.payload?.value.length).toBe(size);
    device.succeed(command.id, { type: 'test.Done', value: new Uint8Array(size) });
  }
  for (const [i, end] of ends.entries()) expect(await end).toMatchObject({ result: { value: { length: sizes[i] } } });
});

test('a client is given up with its live commands, as they stand', async () => {
  const { hub, node } = await open();
  const device = scriptedDevice(hub);
  const { epoch } = await device.hello({ journalId: 'journal-1' });
  const command = testCommand({ orderingKey: 'a' });
  const sent = collect(hub.send(command)).catch((error: unknown) => error);
  await device.command();
  device.send({ $case: 'started', value: { commandId: command.id } });
  const handed = await linkTo(node).yield({ tenant: 'default', clientId: 'pump-7' }, epoch + 1);
  expect(handed).toEqual([
    expect.objectContaining({
      command: expect.objectContaining({ id: command.id, tenant: 'default', orderingKey: 'a' }),
      last: expect.objectContaining({ state: 'started' }),
      journal: 'journal-1',
      cancelReason: undefined,
    }),
  ]);
  expect(await sent).toMatchObject({ code: 'outcome-unknown' });
  expect(device.isClosed).toBe(true);
});

test('an abort, a cancel and a leaving take the hop', async () => {
  const { hub, node } = await open();
  const link = linkTo(node);
  const device = scriptedDevice(hub);
  await device.hello();
  const [first, second, third] = [testCommand(), testCommand(), testCommand()];
  const aborter = new AbortController();
  const updates = collect(link.send(first, { signal: aborter.signal }));
  for await (const update of link.send(second)) if (update.state === 'sent') break;
  await device.command(2);
  device.acknowledge();
  aborter.abort();
  const cancelled = (id: string) =>
    device.next((frame) => frame.body?.$case === 'cancel' && frame.body.value.commandId === id);
  await cancelled(first.id);
  expect(await link.cancel('default', second.id, 'no more')).toMatchObject({ state: 'delivered' });
  await cancelled(second.id);
  device.end(first.id, 'cancelled');
  device.end(second.id, 'cancelled');
  expect((await updates).at(-1)).toMatchObject({ state: 'cancelled' });
  const watched = collect(link.watch('default', third.id));
  await expect(watched).rejects.toMatchObject({ code: 'not-found' });
  // One that another node had sent is found by whose it is.
  const again = scriptedDevice(hub);
  await again.hello({ inFlight: [third.id] });
  await expect(link.cancel('default', third.id, 'no more')).rejects.toMatchObject({ code: 'not-found' });
  await link.cancel('default', third.id, 'no more', { clientId: 'pump-7' });
  await again.next(({ body }) => body?.$case === 'cancel' && body.value.commandId === third.id);
});

test('who does not know the secret is not answered, and hears nothing from who does not', async () => {
  const { node } = await open();
  const other = linkTo(node, { secret: `another ${secret}` });
  await expect(other.get('default', 'x')).rejects.toMatchObject({ code: 'unavailable', message: /cluster secret/ });
  const impostor = await serveGrpc({
    hub: new Hub(),
    authenticator: authenticatorOf(() => principal()),
    addresses: ['127.0.0.1:0'],
    nodes: { end: nodeEnd(new Hub()), secret: `another ${secret}`, isOwn: () => true },
  });
  closing.push(() => impostor.close({ timeoutMs: 0 }));
  const link = linkTo({ ...node, address: impostor.addresses[0]! });
  await expect(link.get('default', 'x')).rejects.toBeInstanceOf(LinkBroken);
  expect(() => grpcNodeLinks({ secret: 'short', instance: () => 'a' })).toThrow(/5 bytes/);
});

test('another process at the same address is not taken for the node', async () => {
  const { node } = await open();
  const link = linkTo({ ...node, instance: 'b-0' });
  await expect(link.get('default', 'x')).rejects.toMatchObject({ message: /another process/, mayHaveArrived: false });
});

test('a node that is not there, or never answers, is out of reach soon, and surely has not heard', async () => {
  const { node, server } = await open();
  const silent = await faultProxy({ target: () => server.addresses[0]! });
  closing.push(() => silent.close());
  silent.blackHole();
  const link = linkTo({ ...node, address: silent.address }, { connectTimeoutMs: 100 });
  await expect(link.settle(testCommand())).rejects.toMatchObject({ mayHaveArrived: false });
  const nobody = linkTo({ ...node, address: '127.0.0.1:1' });
  await expect(nobody.settle(testCommand())).rejects.toMatchObject({ code: 'unavailable', mayHaveArrived: false });
});

test('a link that breaks tells all who wait, and opens again with the next ask', async () => {
  const { hub, node, server } = await open();
  const proxy = await faultProxy({ target: () => server.addresses[0]! });
  closing.push(() => proxy.close());
  const link = linkTo({ ...node, address: proxy.address });
  const device = scriptedDevice(hub);
  await device.hello();
  const command = testCommand();
  const settled = link.settle(command).catch((error: unknown) => error);
  const updates = collect(link.send(testCommand())).catch((error: unknown) => error);
  await device.command(2);
  proxy.cutSome(1);
  expect(await settled).toMatchObject({ mayHaveArrived: true });
  expect(await updates).toMatchObject({ mayHaveArrived: true });
  const again = collect(link.watch('default', command.id));
  device.succeed(command.id);
  expect((await again).at(-1)).toMatchObject({ state: 'succeeded' });
});

test('a node that closes says which asks it never took: these can surely be asked elsewhere', async () => {
  const { hub, node, server } = await open();
  const link = linkTo(node);
  const device = scriptedDevice(hub);
  await device.hello();
  const taken = link.settle(testCommand()).catch((error: unknown) => error);
  await device.command();
  const closed = server.close({ timeoutMs: 1000 });
  // On their way while it closes, as those of a node that has not heard of it yet.
  const late = Array.from({ length: 20 }, () => testCommand());
  const refused = await Promise.all(late.map((command) => link.settle(command).catch((error: unknown) => error)));
  expect(await taken).toMatchObject({ code: 'unavailable', mayHaveArrived: true });
  for (const error of refused) expect(error).toMatchObject({ code: 'unavailable', mayHaveArrived: false });
  await closed;
  for (const { id } of late) await expect(hub.get('default', id)).rejects.toMatchObject({ code: 'not-found' });
});
