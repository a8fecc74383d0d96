import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  clearServices,
  commandClient,
  fleet,
  registerService,
  StreamingCommandClient,
} from '../../src/commands/index.ts';
import { Hub } from '../../src/hub/index.ts';
import { protoCodec } from '../../src/protocol/codec.ts';
import {
  PumpAnswer,
  PumpCommand,
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
  TailLogResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { type ScriptedDevice, scriptedDevice } from '../../src/testing/index.ts';

const pkg = 'signalbox.example.v1';
let hub: Hub;

beforeEach(() => {
  hub = new Hub();
  registerService('default', hub);
});

afterEach(async () => {
  clearServices();
  await hub.close();
});

async function connect(clientId = 'pump-7', labels: Record<string, string> = {}): Promise<ScriptedDevice> {
  const device = scriptedDevice(hub);
  await device.hello({ clientId, labels });
  return device;
}

const response = (rpm: number) => ({ type: `${pkg}.StartResponse`, value: StartResponse.encode({ rpm }).finish() });

test('a device of this process answers like an object', async () => {
  const device = await connect();
  const started = commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).start({ rpm: 1200 });
  const { id, payload } = await device.command();
  expect(payload?.type).toBe(`${pkg}.PumpService/Start`);
  device.succeed(id, response(StartRequest.decode(payload!.value).rpm));
  expect(await started).toEqual({ rpm: 1200 });
});

test('a class of commands works on the same road', async () => {
  const answers = protoCodec(PumpAnswer);
  const device = await connect();
  const pump = new StreamingCommandClient({ clientId: 'pump-7', codec: protoCodec(PumpCommand), result: answers });
  const stopped = pump.request({ kind: { $case: 'stop', value: {} } });
  const { id } = await device.command();
  const answer: PumpAnswer = { kind: { $case: 'stop', value: { ranMs: 5 } } };
  device.succeed(id, { type: answers.type, value: answers.encode(answer) });
  expect(await stopped).toEqual(answer);
});

test('send resolves with the acknowledgement of the device and not before', async () => {
  const device = await connect();
  let isDelivered = false;
  const sending = commandClient(PumpServiceDefinition, { clientId: 'pump-7' })
    .start.send({ rpm: 1 })
    .then((receipt) => {
      isDelivered = true;
      return receipt;
    });
  const { id } = await device.command();
  await new Promise((resolve) => setImmediate(resolve));
  expect(isDelivered).toBe(false);
  device.acknowledge();
  expect(await sending).toEqual({ commandId: id, state: 'delivered' });
});

test('old fault: after a disconnect a client is offline, and nothing sent to it succeeds', async () => {
  const device = await connect();
  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7' });
  device.cut();
  await expect(pump.start({ rpm: 1 })).rejects.toMatchObject({ code: 'client-offline' });
  await expect(pump.start.send({ rpm: 1 })).rejects.toMatchObject({ code: 'client-offline' });
});

test('waitForConnectMs waits for the device to come', async () => {
  const started = commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).start(
    { rpm: 3 },
    { waitForConnectMs: 5000 },
  );
  const device = await connect();
  device.succeed((await device.command()).id, response(3));
  expect(await started).toEqual({ rpm: 3 });
});

test('a device that fails says why in its own word', async () => {
  const device = await connect();
  const started = commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).start({ rpm: 3 });
  device.end((await device.command()).id, 'failed', 'rotor-stuck', 'it does not turn');
  await expect(started).rejects.toMatchObject({ code: 'command-failed', deviceCode: 'rotor-stuck' });
});

test('aborting a request cancels the command at its device', async () => {
  const device = await connect();
  const abort = new AbortController();
  const started = commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).start(
    { rpm: 3 },
    { signal: abort.signal },
  );
  const { id } = await device.command();
  device.acknowledge();
  abort.abort();
  const { body } = await device.next((frame) => frame.body?.$case === 'cancel');
  expect(body).toMatchObject({ value: { commandId: id } });
  device.end(id, 'cancelled', 'cancelled', 'stopped');
  await expect(started).rejects.toMatchObject({ code: 'command-cancelled' });
});

test('leaving a stream of items cancels the command at its device', async () => {
  const device = await connect();
  const line = { type: `${pkg}.TailLogResponse`, value: TailLogResponse.encode({ number: 1, text: 'one' }).finish() };
  const reading = (async () => {
    for await (const { text } of commandClient(PumpServiceDefinition, { clientId: 'pump-7' }).tailLog({ lines: 9 }))
      return text;
  })();
  const { id } = await device.command();
  device.send({ $case: 'progress', value: { commandId: id, progress: { note: '', item: line, itemNumber: 0 } } });
  expect(await reading).toBe('one');
  const { body } = await device.next((frame) => frame.body?.$case === 'cancel');
  expect(body).toMatchObject({ value: { commandId: id } });
});

test('a fleet by labels reaches those that are connected', async () => {
  const devices = await Promise.all([1, 2, 3].map((n) => connect(`pump-${n}`, { site: n === 3 ? 'south' : 'north' })));
  const run = fleet({ labels: { site: 'north' } })
    .client(PumpServiceDefinition)
    .start({ rpm: 8 })
    .all();
  for (const device of devices.slice(0, 2)) device.succeed((await device.command()).id, response(8));
  expect((await run).map(({ clientId, outcome }) => `${clientId} ${outcome}`).sort()).toEqual([
    'pump-1 succeeded',
    'pump-2 succeeded',
  ]);
  expect(devices[2]!.commands).toEqual([]);
});
