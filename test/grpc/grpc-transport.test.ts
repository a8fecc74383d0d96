import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import type { HubError } from '../../src/errors.ts';
import { type GrpcTransport, type GrpcTransportOptions, grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { hubClients } from '../../src/grpc/hub-clients.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { type CommandStore, Hub, memoryCommandStore } from '../../src/hub/index.ts';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import { commandToProto, stateToProto } from '../../src/protocol/convert.ts';
import {
  collect,
  type FaultProxy,
  faultProxy,
  scriptedDevice,
  testCommand,
  virtualClock,
} from '../../src/testing/index.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';

const states = (updates: readonly CommandUpdate[]): string[] => updates.map(({ state }) => state);
const opened: (() => unknown)[] = [];
let store: CommandStore;
let hub: Hub;
let server: GrpcServer;
let road: FaultProxy;
/** Where the road leads. */
let target: string;

async function startHub(): Promise<void> {
  hub = new Hub({ commands: store });
  server = await serveGrpc({ hub, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
}

async function stopHub(): Promise<void> {
  await server.close({ timeoutMs: 0 });
  await hub.close();
}

/** Breaks every connection and takes no new one. */
function shut(one: FaultProxy): void {
  one.block();
  one.cutAll();
}

function transportTo(address: string, options: Partial<GrpcTransportOptions> = {}): GrpcTransport {
  const transport = grpcTransport({ address, random: () => 0.1, ...options });
  opened.push(() => transport.close());
  return transport;
}

beforeEach(async () => {
  store = memoryCommandStore();
  await startHub();
  target = server.addresses[0]!;
  road = await faultProxy({ target: () => target });
});
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
  await road.close();
  await stopHub();
});

describe('who wants the end alone', () => {
  test('is told that, and what every follower is told', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const transport = transportTo(target);
    for (const [index, end] of (['succeeded', 'failed', 'rejected'] as const).entries()) {
      const command = testCommand();
      const told = transport.settle!(command, (end) => end);
      expect((await device.command(index + 1)).id).toBe(command.id);
      device.send({ $case: 'started', value: { commandId: command.id } });
      if (end === 'succeeded') device.succeed(command.id);
      else device.end(command.id, end);
      expect(await told).toEqual((await collect(hub.watch('default', command.id))).at(-1));
    }
    await expect(transport.settle!(testCommand({ clientId: 'nobody' }), (end) => end)).rejects.toMatchObject({
      code: 'client-offline',
    });
  });

  test('gets one message of the hub: how it ends', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const clients = hubClients({ address: target });
    opened.push(() => clients.close());
    const command = testCommand();
    const seen: unknown[] = [];
    const reading = (async () => {
      const sent = { command: commandToProto(command), brief: true };
      for await (const { update } of clients.commands.sendCommandToClient(sent)) seen.push(update?.state);
    })();
    await device.command();
    device.send({ $case: 'started', value: { commandId: command.id } });
    device.succeed(command.id);
    await reading;
    expect(seen).toEqual([stateToProto('succeeded')]);
  });

  test('has it also over a connection that breaks', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand();
    const told = transportTo(road.address).settle!(command, (end) => end);
    await device.command();
    road.cutAll();
    device.succeed(command.id);
    expect(await told).toMatchObject({ commandId: command.id, state: 'succeeded' });
  });
});

describe('when the connection breaks', () => {
  test('a live command that the hub has goes on, and no update is lost or told twice', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand();
    const seen: CommandUpdate[] = [];
    const reading = (async () => {
      for await (const update of transportTo(road.address).send(command)) {
        seen.push(update);
        if (update.state === 'delivered') road.cutAll();
        if (update.state === 'progress') device.succeed(command.id);
      }
    })();
    await device.command();
    device.acknowledge();
    await expect.poll(() => road.counts.accepted).toBe(2);
    const progress = { fraction: 0.5, note: '', item: undefined, itemNumber: 0 };
    device.send({ $case: 'progress', value: { commandId: command.id, progress } });
    await reading;
    expect(states(seen)).toEqual(['queued', 'sent', 'delivered', 'progress', 'succeeded']);
    expect(device.commands).toHaveLength(1);
  });

  test('items come once each, over many breaks', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand();
    const items: number[] = [];
    const emit = (n: number): void => {
      const item = { type: 'test.N', value: new Uint8Array([n]) };
      const progress = { fraction: undefined, note: '', item, itemNumber: 0 };
      device.send({ $case: 'progress', value: { commandId: command.id, progress } });
    };
    void device.command().then(() => emit(0));
    for await (const update of transportTo(road.address).send(command)) {
      if (update.state !== 'progress') continue;
      const n = update.progress.item!.value[0]!;
      items.push(n);
      if (n % 5 === 4) road.cutAll();
      if (n < 39) emit(n + 1);
      else device.succeed(command.id);
    }
    expect(items).toEqual(Array.from({ length: 40 }, (_, n) => n));
  });

  test('a cancel that is asked for while it is away reaches the device afterwards', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const aborter = new AbortController();
    const command = testCommand();
    const updates = collect(transportTo(road.address).send(command, { signal: aborter.signal }));
    await device.command();
    shut(road);
    aborter.abort();
    road.unblock();
    await device.next((frame) => frame.body?.$case === 'cancel');
    device.end(command.id, 'cancelled');
    expect((await updates).at(-1)?.state).toBe('cancelled');
  });

  test('leaving the loop while it is away ends at once', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const iterator = transportTo(road.address).send(testCommand())[Symbol.asyncIterator]();
    await iterator.next();
    shut(road);
    const pending = iterator.next();
    await iterator.return?.();
    expect((await pending).done === true || (await iterator.next()).done === true).toBe(true);
  });

  test('a live command whose hub was restarted is unknown: it may have been run', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand();
    const updates = collect(transportTo(road.address).send(command));
    await device.command();
    await stopHub();
    await startHub();
    target = server.addresses[0]!;
    await expect(updates).rejects.toMatchObject({
      code: 'outcome-unknown',
      commandId: command.id,
      message: expect.stringContaining(command.id),
    });
  });

  test('also one of which nothing was heard before, that is cancelled at the restarted hub first', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const aborter = new AbortController();
    // The second call looks for the command after the break: it never gets its token, so that the cancel comes first.
    const looksForIt = Promise.withResolvers<void>();
    let calls = 0;
    const token = (): string | Promise<string> => {
      if (++calls !== 2) return 'any';
      looksForIt.resolve();
      return new Promise<never>(() => undefined);
    };
    const transport = transportTo(road.address, { token });
    const updates = collect(transport.send(testCommand(), { signal: aborter.signal, brief: true }));
    const error = updates.catch((thrown: HubError) => thrown);
    await device.command();
    await stopHub();
    await startHub();
    target = server.addresses[0]!;
    await looksForIt.promise;
    aborter.abort();
    expect(await error).toMatchObject({ code: 'outcome-unknown' });
  });

  test('an idempotent one is sent again, and runs at the restarted hub', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const command = testCommand({ idempotent: true, waitForConnectMs: 10_000 });
    const updates = collect(transportTo(road.address).send(command));
    await device.command();
    shut(road);
    await stopHub();
    await startHub();
    target = server.addresses[0]!;
    road.unblock();
    const back = scriptedDevice(hub);
    await back.hello();
    back.succeed((await back.command()).id);
    expect((await updates).at(-1)?.state).toBe('succeeded');
  });

  test('a queued command goes on with the restarted hub, and is the same command', async () => {
    const command = testCommand({ whenOffline: 'queue' });
    const iterator = transportTo(road.address).send(command)[Symbol.asyncIterator]();
    expect((await iterator.next()).value?.state).toBe('queued');
    await stopHub();
    await startHub();
    target = server.addresses[0]!;
    const device = scriptedDevice(hub);
    await device.hello();
    device.succeed((await device.command()).id);
    const rest: string[] = [];
    for (let step = await iterator.next(); !step.done; step = await iterator.next()) rest.push(step.value.state);
    expect(rest.at(-1)).toBe('succeeded');
    expect(rest).not.toContain('queued');
    expect(device.commands.map(({ id }) => id)).toEqual([command.id]);
  });

  test('a live command whose hub stays away ends by its own time', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const clock = virtualClock();
    const updates = collect(transportTo(road.address, { clock }).send(testCommand({ timeoutMs: 20_000 })));
    const error = updates.catch((thrown: HubError) => thrown);
    await device.command();
    shut(road);
    let isOver = false;
    void error.then(() => (isOver = true));
    while (!isOver) await clock.advance(1_000);
    expect(await error).toMatchObject({ code: 'outcome-unknown' });
    expect(clock.pending).toBe(0);
  });
});

describe('when there is no hub', () => {
  test('a dead address is unavailable and named', async () => {
    shut(road);
    const error = await collect(transportTo(road.address).send(testCommand())).catch((thrown: HubError) => thrown);
    expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining(road.address) });
  });

  test('a peer that never speaks is given up after the connect timeout', async () => {
    const mute = createServer(() => undefined).listen(0, '127.0.0.1');
    opened.push(() => mute.close());
    await new Promise((resolve) => mute.once('listening', resolve));
    const address = `127.0.0.1:${(mute.address() as { port: number }).port}`;
    const sent = collect(transportTo(address, { connectTimeoutMs: 200 }).send(testCommand()));
    const error = await sent.catch((thrown: HubError) => thrown);
    expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining(address) });
  });

  test('an abort ends a command that was not sent yet', async () => {
    const mute = createServer(() => undefined).listen(0, '127.0.0.1');
    opened.push(() => mute.close());
    await new Promise((resolve) => mute.once('listening', resolve));
    const address = `127.0.0.1:${(mute.address() as { port: number }).port}`;
    const aborter = new AbortController();
    const sent = collect(transportTo(address).send(testCommand(), { signal: aborter.signal }));
    aborter.abort();
    await expect(sent).rejects.toMatchObject({ code: 'command-cancelled' });
  });

  test.each(['nowhere', 'unix:relative', '127.0.0.1:99999', ''])('%j is no address', (address) => {
    expect(() => grpcTransport({ address })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('closing', () => {
  test('ends what is watched with unavailable, and what comes later too', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const transport = transportTo(road.address);
    const updates = collect(transport.send(testCommand()));
    await device.command();
    await transport.close();
    await transport.close();
    await expect(updates).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('closed') });
    await expect(collect(transport.send(testCommand()))).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('a value that cannot go over the wire is refused by name', async () => {
    const sent = collect(transportTo(road.address).send(testCommand({ timeoutMs: 5e9 })));
    await expect(sent).rejects.toMatchObject({ code: 'invalid-argument', message: /timeoutMs is 5000000000/ });
  });

  test('a token that is no token is refused, and one that cannot be had is told', async () => {
    const bad = collect(transportTo(road.address, { token: async () => 'a b' }).send(testCommand()));
    await expect(bad).rejects.toMatchObject({ code: 'invalid-argument' });
    const none = transportTo(road.address, { token: () => Promise.reject(new Error('no vault')) });
    await expect(collect(none.send(testCommand()))).rejects.toMatchObject({ message: 'no vault' });
  });
});

describe('three processes', () => {
  const program = (name: string, ...args: string[]): Program =>
    new Program(process.execPath, [path.join(root, 'test/grpc/programs', name), ...args]);

  test('old fault: a send-and-wait from another process gets its answer', async () => {
    const [address] = server.addresses;
    const device = program('device.ts', address!);
    await device.says(/connected/);
    const caller = program('caller.ts', address!, '900');
    expect(await caller.ended(), caller.stderr).toBe(0);
    expect(caller.stdout).toContain('answer {"rpm":901}');
    expect(device.stdout).toContain('running 900');
  });

  test('a caller whose connection is gone waits for its answer, and ends when it has it', async () => {
    const device = program('device.ts', server.addresses[0]!, 'wait');
    await device.says(/connected/);
    const caller = program('caller.ts', road.address, '900');
    await device.says(/running 900/);
    // Nothing but the command keeps the caller's process now.
    shut(road);
    device.write('go\n');
    await expect.poll(async () => (await hub.list({ tenant: 'default', limit: 1 }))[0]?.last.state).toBe('succeeded');
    road.unblock();
    expect(await caller.ended(), caller.stderr).toBe(0);
    expect(caller.stdout).toContain('answer {"rpm":901}');
  });
});

describe('many commands at once', () => {
  test('over a thousand may be under way on one connection, and none waits in silence', async () => {
    const stalled = scriptedDevice(hub);
    await stalled.hello({ clientId: 'stalled', window: 256 });
    const device = scriptedDevice(hub);
    await device.hello();
    const transport = transportTo(server.addresses[0]!);
    // These are never answered: one half waits at the device, the other at the hub.
    const open = Array.from({ length: 1_500 }, (_, i) =>
      collect(transport.send(testCommand({ clientId: i % 2 ? 'stalled' : 'absent', waitForConnectMs: 20_000 }))).catch(
        () => [],
      ),
    );
    await stalled.command(200);
    const beside = collect(transport.send(testCommand()));
    device.succeed((await device.command()).id);
    expect((await beside).at(-1)).toMatchObject({ state: 'succeeded' });
    await transport.close();
    await Promise.all(open);
  });

  test('thousands of quick commands one after the other do not wear the connection out', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const transport = transportTo(server.addresses[0]!);
    let answered = 0;
    const answering = (async () => {
      for (let n = 1; n <= 2_500; n++) {
        device.succeed((await device.command(n)).id);
        answered++;
      }
    })();
    const callers = Array.from({ length: 50 }, async () => {
      for (let i = 0; i < 50; i++) {
        const updates = await collect(transport.send(testCommand()));
        expect(updates.at(-1)).toMatchObject({ state: 'succeeded' });
      }
    });
    await Promise.all([...callers, answering]);
    expect(answered).toBe(2_500);
  });

  test('more than the limit are refused at once', async () => {
    const device = scriptedDevice(hub);
    await device.hello();
    const transport = transportTo(server.addresses[0]!, { maxRunning: 1 });
    const first = collect(transport.send(testCommand()));
    await device.command();
    await expect(collect(transport.send(testCommand()))).rejects.toMatchObject({
      code: 'resource-exhausted',
      message: expect.stringContaining('1 commands are under way'),
    });
    device.succeed(device.commands[0]!.id);
    expect((await first).at(-1)).toMatchObject({ state: 'succeeded' });
  });
});
