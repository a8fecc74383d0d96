import { afterEach, beforeEach, expect, test } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { connectDevice, type Device, type DeviceOptions, HubError } from '../../src/device/index.ts';
import { grpcDial } from '../../src/device/wire/grpc-wire.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { simulatedPump } from '../../src/example/index.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command, CommandUpdate } from '../../src/protocol/command.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
  TailLogResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { echo, gate, text, turns } from './tools.ts';

// The device library and the hub as they are, over real gRPC.

let hub: Hub;
let server: GrpcServer;
let log: ReturnType<typeof memoryEventLog>;
const devices: Device[] = [];

beforeEach(async () => {
  log = memoryEventLog();
  hub = new Hub({ log, commands: memoryCommandStore() });
  server = await serveGrpc({ hub, log, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((device) => device.close({ timeoutMs: 1000 })));
  await server.close({ timeoutMs: 0 });
  await hub.close();
});

async function connect(options: Partial<DeviceOptions> = {}): Promise<Device> {
  const device = await connectDevice({
    address: server.addresses[0] as string,
    clientId: 'pump-7',
    backoff: { minMs: 10, maxMs: 50 },
    ...options,
  });
  devices.push(device);
  return device;
}

let number = 0;
function command(type: string, value: Uint8Array, overrides: Partial<Command> = {}): Command {
  return {
    id: `command-${++number}`,
    tenant: 'default',
    clientId: 'pump-7',
    payload: { type, value },
    whenOffline: 'fail',
    timeoutMs: 30_000,
    waitForConnectMs: 5000,
    ttlMs: 60_000,
    idempotent: false,
    ...overrides,
  };
}

async function last(updates: AsyncIterable<CommandUpdate>): Promise<CommandUpdate> {
  let newest: CommandUpdate | undefined;
  for await (const update of updates) newest = update;
  return newest as CommandUpdate;
}

test('a pump is started, and its log is read, through the hub', async () => {
  const device = await connect({ labels: { site: 'north' }, agent: 'pump/1.0' });
  const pump = simulatedPump({ rampMs: 10, temperatureEveryMs: 0, emit: (name, data) => device.emit(name, data) });
  device.implement(PumpServiceDefinition, pump.service);
  expect(hub.clients.get('default', 'pump-7')).toMatchObject({ connected: true, labels: { site: 'north' } });

  const states: string[] = [];
  let result: CommandUpdate | undefined;
  const start = StartRequest.encode({ rpm: 1200 }).finish();
  for await (const update of hub.send(command('signalbox.example.v1.PumpService/Start', start))) {
    states.push(update.state);
    result = update;
  }
  expect(states).toContain('progress');
  expect(result?.state === 'succeeded' && StartResponse.decode(result.result.value)).toEqual({ rpm: 1200 });

  const lines: string[] = [];
  for await (const update of hub.send(command('signalbox.example.v1.PumpService/TailLog', Uint8Array.of(8, 3, 16, 1))))
    if (update.state === 'progress' && update.progress.item)
      lines.push(TailLogResponse.decode(update.progress.item.value).text);
  expect(lines).toHaveLength(3);
  pump.close();
});

test('thousands of commands at once are each run once, in order', async () => {
  const ran: string[] = [];
  const device = await connect();
  device.handle(
    echo,
    (value) => {
      ran.push(value);
      return value;
    },
    { result: echo },
  );
  const sent = Array.from({ length: 2000 }, (_, i) => `${i}`);
  for (let at = 0; at < sent.length; at += 200) {
    const ends = await Promise.all(
      sent.slice(at, at + 200).map((value) => last(hub.send(command(echo.type, text(value))))),
    );
    expect(ends.every(({ state }) => state === 'succeeded')).toBe(true);
  }
  expect(ran).toEqual(sent);
});

test('a stream that is cut while a command runs is resumed, and the command ends as if nothing had been', async () => {
  const device = await connect();
  const open = gate();
  let runs = 0;
  device.handle(
    echo,
    async () => {
      runs++;
      await open.passed;
      return 'done';
    },
    { result: echo },
  );
  const states: string[] = [];
  const reading = (async () => {
    for await (const update of hub.send(command(echo.type, text('x')))) {
      states.push(update.state);
      if (update.state === 'started') {
        const back = new Promise<void>((resolve) => {
          device.onStateChange((state) => {
            if (state.kind === 'connected') resolve();
          });
        });
        hub.clients.disconnect('default', 'pump-7', { mayReconnect: true });
        await back;
        open.open();
      }
    }
  })();
  await reading;
  expect(states.at(-1)).toBe('succeeded');
  expect(runs).toBe(1);
});

test('queued commands wait for their device, and are run once when it comes', async () => {
  const updates = hub.send(command(echo.type, text('later'), { whenOffline: 'queue', timeoutMs: 0 }));
  const ran: string[] = [];
  const ended = last(updates);
  const device = await connect();
  device.handle(echo, (value) => void ran.push(value));
  expect((await ended).state).toBe('succeeded');
  expect(ran).toEqual(['later']);
});

test('a cancel reaches the handler', async () => {
  const device = await connect();
  device.handle(
    echo,
    (_, { signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new HubError('unavailable', 'stopped'))),
      ),
  );
  let end: CommandUpdate | undefined;
  for await (const update of hub.send(command(echo.type, text('x')))) {
    end = update;
    if (update.state === 'started') await hub.cancel('default', update.commandId, 'enough');
  }
  expect(end).toMatchObject({ state: 'cancelled' });
});

test('what a device emits is in its channel once the promise resolves', async () => {
  const device = await connect();
  await Promise.all([device.emit('temperature', { celsius: 71 }), device.emit('temperature', { celsius: 72 })]);
  const page = await log.read('default/client.pump-7', { epoch: 0, seq: 0 }, 100);
  const events = page.events.filter(({ type }) => type === 'temperature').map((event) => JSON.parse(event.json()).data);
  expect(events).toEqual([{ celsius: 71 }, { celsius: 72 }]);
});

test('of two devices with one id the newest has the stream, and the other comes back later', async () => {
  const old = await connect();
  const waiting = new Promise<number>((resolve) => {
    old.onStateChange((state) => {
      if (state.kind === 'waiting') resolve(state.retryInMs);
    });
  });
  const young = await connect();
  expect(await waiting).toBeGreaterThanOrEqual(1000);
  expect(young.state.kind).toBe('connected');
});

test('a device that closes is away at once', async () => {
  const device = await connect();
  await device.close();
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
});

test('over a stream that is cut again and again, commands run once, and events come once and in order', async () => {
  const cuts: (() => void)[] = [];
  const grpc = grpcDial({ addresses: server.addresses, tls: undefined, channelOptions: {} });
  const dial: DeviceOptions['dial'] = (listener, token) => {
    const wire = grpc(listener, token);
    cuts.push(() => {
      wire.destroy();
      listener.onClosed(new HubError('unavailable', 'cut'));
    });
    return wire;
  };
  const device = await connect({ dial, backoff: { minMs: 1, maxMs: 5 } });
  const runs = new Map<string, number>();
  device.handle(
    echo,
    async (value) => {
      runs.set(value, (runs.get(value) ?? 0) + 1);
      await turns(Number(value) % 7);
      return value;
    },
    { result: echo },
  );
  const ends: Promise<CommandUpdate>[] = [];
  const events: Promise<void>[] = [];
  for (let i = 0; i < 400; i++) {
    const whenOffline = i % 3 === 0 ? 'queue' : 'fail';
    ends.push(last(hub.send(command(echo.type, text(`${i}`), { whenOffline, timeoutMs: 20_000 }))));
    events.push(device.emit('tick', i));
    if (i % 20 === 19) cuts.at(-1)?.();
    await turns(1 + (i % 3));
  }
  const states = (await Promise.all(ends)).map(({ state }) => state);
  await Promise.all(events);
  expect(new Set(states)).toEqual(new Set(['succeeded']));
  expect(runs.size).toBe(400);
  expect(new Set(runs.values())).toEqual(new Set([1]));
  expect(cuts.length).toBeGreaterThan(5);
  const page = await log.read('default/client.pump-7', { epoch: 0, seq: 0 }, 100_000);
  const ticks = page.events.filter(({ type }) => type === 'tick').map((event) => JSON.parse(event.json()).data);
  expect(ticks).toEqual(Array.from({ length: ticks.length }, (_, i) => 400 - ticks.length + i));
  expect(ticks.length).toBeGreaterThan(100);
});
