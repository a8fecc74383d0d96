import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { type GrpcServer, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { closeTransports, commandClient, fleet } from '../../src/index.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { type ScriptedDevice, scriptedDevice } from '../../src/testing/index.ts';

let hub: Hub;
let server: GrpcServer;
let address: string;

beforeEach(async () => {
  hub = new Hub();
  server = await serveGrpc({ hub, authenticator: openAuthenticator(), addresses: ['127.0.0.1:0'] });
  address = server.addresses[0]!;
});

afterEach(async () => {
  await closeTransports();
  await server.close({ timeoutMs: 0 });
  await hub.close();
});

async function connect(clientId: string): Promise<ScriptedDevice> {
  const device = scriptedDevice(hub);
  await device.hello({ clientId, labels: { site: 'north' } });
  return device;
}

async function answerStart(device: ScriptedDevice): Promise<void> {
  const { id, payload } = await device.command();
  const { rpm } = StartRequest.decode(payload!.value);
  device.succeed(id, { type: 'signalbox.example.v1.StartResponse', value: StartResponse.encode({ rpm }).finish() });
}

test('old fault: send-and-wait from another process gets its answer', async () => {
  const device = await connect('pump-7');
  await using pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', address });
  const [answer] = await Promise.all([pump.start({ rpm: 900 }), answerStart(device)]);
  expect(answer).toEqual({ rpm: 900 });
});

test('who waits for the result alone is told the end alone, all the way', async () => {
  const device = await connect('pump-7');
  const [settle, send] = [vi.spyOn(hub, 'settle'), vi.spyOn(hub, 'send')];
  await using pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', address });
  await Promise.all([pump.start({ rpm: 900 }), answerStart(device)]);
  expect([settle.mock.calls.length, send.mock.calls.length]).toEqual([1, 0]);
});

test('a client that is away is offline here too', async () => {
  await using pump = commandClient(PumpServiceDefinition, { clientId: 'pump-9', address });
  await expect(pump.start({ rpm: 1 })).rejects.toMatchObject({ code: 'client-offline' });
});

test('an address that is none is refused by name', async () => {
  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-9', address: 'nowhere' });
  await expect(pump.start({ rpm: 1 })).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('a fleet by labels asks the hub at the end of the road', async () => {
  const devices = await Promise.all(['a', 'b'].map(connect));
  const run = fleet({ labels: { site: 'north' } }, { address })
    .client(PumpServiceDefinition)
    .start({ rpm: 5 })
    .all();
  await Promise.all(devices.map(answerStart));
  expect((await run).map(({ clientId, outcome }) => `${clientId} ${outcome}`).sort()).toEqual([
    'a succeeded',
    'b succeeded',
  ]);
});

test('SIGNALBOX_ADDRESS is enough, and an idle connection does not keep the process alive', async () => {
  const device = await connect('pump-7');
  const source = (file: string): string => JSON.stringify(new URL(`../../src/${file}`, import.meta.url).href);
  const script = `
    import { commandClient } from ${source('index.ts')};
    import { PumpServiceDefinition } from ${source('protocol/gen/signalbox/example/v1/pump.ts')};
    const { rpm } = await commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).start({ rpm: 42 });
    console.log(rpm);`;
  const env = { ...process.env, SIGNALBOX_ADDRESS: address };
  const running = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    env,
    timeout: 30_000,
  });
  await answerStart(device);
  expect((await running).stdout.trim()).toBe('42');
});
