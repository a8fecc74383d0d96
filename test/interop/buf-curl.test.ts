import path from 'node:path';
import { expect, test } from 'vitest';
import { commandClient } from '../../src/index.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { scriptedDevice } from '../../src/testing/index.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';
import { connected, startHub } from './hub.ts';

// buf curl is grpc-go inside. Without --schema it asks the hub's reflection for every type.
function bufCurl(address: string, method: string, data?: string): Program {
  return new Program(path.join(root, 'node_modules/.bin/buf'), [
    'curl',
    '--protocol',
    'grpc',
    '--http2-prior-knowledge',
    '--data',
    data ?? '@-',
    `http://${address}/${method}`,
  ]);
}

/** The JSON objects that buf curl has printed, one after the other. */
function objects(text: string): unknown[] {
  return text
    .trim()
    .split(/(?<=^\})\n(?=\{)/m)
    .map((each) => JSON.parse(each) as unknown);
}

test('buf curl calls a unary method, the types from reflection', async () => {
  const { hub, address } = await startHub();
  await scriptedDevice(hub).hello({ clientId: 'pump-7', labels: { site: 'north' } });
  const curl = bufCurl(address, 'signalbox.v1.ClientService/ListClients', '{"connectedOnly": true}');
  expect(await curl.ended(), curl.stderr).toBe(0);
  expect(JSON.parse(curl.stdout)).toMatchObject({
    clients: [{ id: 'pump-7', connected: true, labels: { site: 'north' } }],
  });
});

test('buf curl sends a command and is told every update', async () => {
  const { hub, address } = await startHub();
  const device = scriptedDevice(hub);
  await device.hello({ clientId: 'pump-7' });
  const value = Buffer.from(StartRequest.encode({ rpm: 900 }).finish()).toString('base64');
  const payload = { type: 'signalbox.example.v1.PumpService/Start', value };
  const command = { id: 'cmd-1', clientId: 'pump-7', payload, timeoutMs: 20_000 };
  const curl = bufCurl(address, 'signalbox.v1.CommandService/SendCommandToClient', JSON.stringify({ command }));
  const { id, payload: received } = await device.command();
  expect(id).toBe('cmd-1');
  const { rpm } = StartRequest.decode(received!.value);
  const answer = StartResponse.encode({ rpm }).finish();
  device.succeed(id, { type: 'signalbox.example.v1.StartResponse', value: answer });
  expect(await curl.ended(), curl.stderr).toBe(0);
  const states = objects(curl.stdout).map((each) => (each as { update: { state: string } }).update.state);
  expect(states[0]).toBe('COMMAND_STATE_QUEUED');
  expect(states).toContain('COMMAND_STATE_DELIVERED');
  expect(objects(curl.stdout).at(-1)).toMatchObject({
    update: {
      commandId: 'cmd-1',
      state: 'COMMAND_STATE_SUCCEEDED',
      result: { type: 'signalbox.example.v1.StartResponse', value: Buffer.from(answer).toString('base64') },
    },
  });
});

test('buf curl is told by a status that a client is away', async () => {
  const { address } = await startHub();
  const command = { clientId: 'pump-9', payload: { type: 'test.Do', value: '' } };
  const curl = bufCurl(address, 'signalbox.v1.CommandService/SendCommandToClient', JSON.stringify({ command }));
  expect(await curl.ended()).not.toBe(0);
  expect(JSON.parse(curl.stderr)).toMatchObject({ code: 'unavailable', message: expect.stringContaining('pump-9') });
});

test('buf curl is a device: frames as JSON on its stdin', async () => {
  const { hub, address } = await startHub();
  const curl = bufCurl(address, 'signalbox.v1.DeviceService/Connect');
  const send = (frame: object): void => curl.write(`${JSON.stringify(frame)}\n`);
  send({ hello: { clientId: 'pump-7', bootId: 'boot-1', journalId: 'journal-1', protocol: 1 } });
  await curl.says(/"welcome"/);
  await connected(hub, 'pump-7');

  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', transport: hub });
  const answer = pump.start({ rpm: 900 }, { commandId: 'cmd-1' });
  const [, seq] = await curl.says(/"seq": (\d+),[^{]*"command"/);
  const value = Buffer.from(StartResponse.encode({ rpm: 900 }).finish()).toString('base64');
  const payload = { type: 'signalbox.example.v1.StartResponse', value };
  send({ seq: 1, ack: Number(seq), result: { commandId: 'cmd-1', state: 'COMMAND_STATE_SUCCEEDED', payload } });
  expect(await answer).toEqual({ rpm: 900 });

  send({ goodbye: {} });
  curl.endInput();
  expect(await curl.ended(), curl.stderr).toBe(0);
  expect(hub.clients.isConnected('default', 'pump-7')).toBe(false);
});
