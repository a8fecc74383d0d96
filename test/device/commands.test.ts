import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CommandRejected, connectDevice, type Device, type DeviceOptions, HubError } from '../../src/device/index.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  TailLogResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { ScriptedHub, type ScriptedStream } from './scripted-hub.ts';
import { echo, gate, text } from './tools.ts';

let hub: ScriptedHub;
const devices: Device[] = [];

beforeEach(async () => {
  hub = await ScriptedHub.start();
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((device) => device.close({ timeoutMs: 0 })));
  await hub[Symbol.asyncDispose]();
});

async function connected(options: Partial<DeviceOptions> = {}): Promise<{ device: Device; stream: ScriptedStream }> {
  const connecting = connectDevice({ address: hub.address, clientId: 'pump-7', handlerGraceMs: 0, ...options });
  const stream = await hub.stream();
  await stream.welcome();
  const device = await connecting;
  devices.push(device);
  return { device, stream };
}

describe('answers', () => {
  test('a handler that ends at once is answered in one frame, with the acknowledgement in it', async () => {
    const { device, stream } = await connected();
    device.handle(echo, (value) => `${value}!`, { result: echo });
    const seq = stream.command({ id: 'c1', payload: { type: echo.type, value: text('hi') } });
    const frame = await stream.frame();
    expect(frame).toMatchObject({ seq: 1, ack: seq, body: { $case: 'result' } });
    expect(frame.body?.value).toMatchObject({
      commandId: 'c1',
      state: CommandState.COMMAND_STATE_SUCCEEDED,
      payload: { type: echo.type, value: Buffer.from('hi!') },
    });
  });

  test('a handler that takes its time is acknowledged and said to be started first', async () => {
    const { device, stream } = await connected();
    const open = gate();
    device.handle(echo, () => open.passed);
    const seq = stream.command({ id: 'c1' });
    expect(await stream.frame()).toMatchObject({ ack: seq, body: { $case: 'started', value: { commandId: 'c1' } } });
    open.open();
    expect(await stream.next('result')).toMatchObject({ state: CommandState.COMMAND_STATE_SUCCEEDED });
  });

  test('commands that wait for their turn are acknowledged once for all', async () => {
    const { device, stream } = await connected({ concurrency: 1 });
    device.handle(echo, () => new Promise(() => undefined));
    for (const id of ['a', 'b', 'c', 'd']) stream.command({ id });
    await stream.acknowledged(4);
    expect(stream.frames.filter(({ body }) => body?.$case === 'started')).toHaveLength(1);
  });

  test('a service definition is the contract: unary methods answer with their response', async () => {
    const { device, stream } = await connected();
    device.implement(PumpServiceDefinition, {
      start: async ({ rpm }) => ({ rpm: rpm + 1 }),
      stop: () => ({}),
      configUpdate: ({ config }) => ({ config: config ?? {} }),
      async *tailLog({ lines }) {
        for (let number = 1; number <= lines; number++) yield { number, text: `line ${number}` };
      },
    });
    const value = StartRequest.encode({ rpm: 1200 }).finish();
    stream.command({ id: 'c1', payload: { type: 'signalbox.example.v1.PumpService/Start', value } });
    const { payload } = await stream.next('result');
    expect(payload?.type).toBe('signalbox.example.v1.StartResponse');
    expect(StartRequest.decode(payload?.value as Uint8Array)).toEqual({ rpm: 1201 });

    stream.command({
      id: 'c2',
      payload: { type: 'signalbox.example.v1.PumpService/TailLog', value: Uint8Array.of(8, 3) },
    });
    const lines = [];
    for (let i = 0; i < 3; i++) {
      const { progress } = await stream.next('progress');
      lines.push(TailLogResponse.decode(progress?.item?.value as Uint8Array).text);
    }
    expect(lines).toEqual(['line 1', 'line 2', 'line 3']);
    expect(await stream.next('result')).toMatchObject({
      state: CommandState.COMMAND_STATE_SUCCEEDED,
      payload: { type: '' },
    });
  });

  test.each([
    ['an unknown type', { type: 'nobody.Knows', value: text('') }, { code: 'unimplemented' }],
    ['bytes that are not the message', { type: 'test.Strict', value: text('x') }, { code: 'invalid-argument' }],
  ])('%s is rejected', async (_, payload, error) => {
    const { device, stream } = await connected();
    const strict = {
      ...echo,
      type: 'test.Strict',
      decode: (): string => {
        throw new Error('not strict');
      },
    };
    device.handle(strict, () => 'never');
    stream.command({ id: 'c1', payload });
    expect(await stream.next('result')).toMatchObject({ state: CommandState.COMMAND_STATE_REJECTED, error });
  });

  test.each([
    [
      'a HubError',
      new HubError('invalid-argument', 'rpm 9000'),
      'FAILED',
      { code: 'invalid-argument', message: 'rpm 9000' },
    ],
    [
      'an error with a code',
      Object.assign(new Error('gone'), { code: 'ENOENT' }),
      'FAILED',
      { code: 'ENOENT', message: 'gone' },
    ],
    ['another error', new TypeError('oops'), 'FAILED', { code: 'handler-failed', message: 'oops' }],
    ['no error at all', 'just text', 'FAILED', { code: 'handler-failed', message: 'just text' }],
    ['undefined', undefined, 'FAILED', { code: 'handler-failed', message: 'undefined' }],
    ['an object without a prototype', Object.create(null), 'FAILED', { code: 'handler-failed' }],
    [
      'a CommandRejected',
      new CommandRejected('too-hot', '99 degrees'),
      'REJECTED',
      { code: 'too-hot', message: '99 degrees' },
    ],
  ] as const)('a handler that throws %s ends the command', async (_, thrown, state, error) => {
    const { device, stream } = await connected();
    device.handle(echo, async () => {
      throw thrown;
    });
    stream.command({ id: 'c1' });
    expect(await stream.next('result')).toMatchObject({ state: CommandState[`COMMAND_STATE_${state}`], error });
  });

  test('a result larger than the hub takes fails the command instead of the stream', async () => {
    const connecting = connectDevice({ address: hub.address, clientId: 'pump-7' });
    const stream = await hub.stream();
    await stream.welcome({ maxFrameBytes: 1000 });
    const device = await connecting;
    devices.push(device);
    device.handle(echo, () => 'x'.repeat(1000), { result: echo });
    stream.command({ id: 'c1' });
    expect(await stream.next('result')).toMatchObject({
      state: CommandState.COMMAND_STATE_FAILED,
      error: { code: 'result-too-large' },
    });
    expect(() => device.emit('big', 'x'.repeat(1000))).toThrow(/1000/);
  });

  test('handlers may be registered after the device was welcomed: commands wait a moment for them', async () => {
    const { device, stream } = await connected({ handlerGraceMs: 60_000 });
    const seq = stream.command({ id: 'c1' });
    await stream.acknowledged(seq);
    device.handle(echo, () => undefined);
    expect(await stream.next('result')).toMatchObject({ state: CommandState.COMMAND_STATE_SUCCEEDED });
  });
});

describe('order', () => {
  test('handlers start in the order of arrival, so many at once', async () => {
    const { device, stream } = await connected({ concurrency: 2 });
    const gates = new Map(['a', 'b', 'c', 'd'].map((id) => [id, gate()]));
    const started: string[] = [];
    device.handle(echo, async (_, { commandId }) => {
      started.push(commandId);
      await gates.get(commandId)?.passed;
    });
    for (const id of gates.keys()) stream.command({ id });
    await stream.acknowledged(4);
    expect(started).toEqual(['a', 'b']);
    gates.get('b')?.open();
    await stream.next('result');
    expect(started).toEqual(['a', 'b', 'c']);
    gates.get('a')?.open();
    await stream.next('result');
    expect(started).toEqual(['a', 'b', 'c', 'd']);
  });

  test('commands with one ordering key run strictly one after the other, and hold up nobody else', async () => {
    const { device, stream } = await connected();
    const gates = new Map(['a', 'b', 'c'].map((id) => [id, gate()]));
    const log: string[] = [];
    device.handle(echo, async (_, { commandId }) => {
      log.push(`+${commandId}`);
      await gates.get(commandId)?.passed;
      log.push(`-${commandId}`);
    });
    stream.command({ id: 'a', orderingKey: 'k' });
    stream.command({ id: 'b', orderingKey: 'k' });
    stream.command({ id: 'c', orderingKey: 'k' });
    stream.command({ id: 'free' });
    expect(await stream.next('result')).toMatchObject({ commandId: 'free' });
    for (const id of ['a', 'b', 'c']) {
      gates.get(id)?.open();
      expect(await stream.next('result')).toMatchObject({ commandId: id });
    }
    expect(log).toEqual(['+a', '+free', '-free', '-a', '+b', '-b', '+c', '-c']);
  });
});

describe('once', () => {
  test('an id that comes again while it runs changes nothing; after its end it is answered again, not run', async () => {
    const { device, stream } = await connected();
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
    stream.command({ id: 'c1' });
    await stream.next('started');
    stream.command({ id: 'c1' });
    open.open();
    const first = await stream.next('result');
    stream.ack();
    const ping = 7;
    stream.send({ $case: 'ping', value: { nonce: ping } });
    await stream.next('pong');
    stream.command({ id: 'c1' });
    const again = await stream.next('result');
    expect({ ...again, seq: 0 }).toEqual({ ...first, seq: 0 });
    expect(runs).toBe(1);
  });
});

describe('cancel', () => {
  test('a running command hears of it by its signal, and ends as cancelled', async () => {
    const { device, stream } = await connected();
    device.handle(
      echo,
      (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    );
    stream.command({ id: 'c1' });
    await stream.next('started');
    stream.cancel('c1', 'changed my mind');
    expect(await stream.next('result')).toMatchObject({
      commandId: 'c1',
      state: CommandState.COMMAND_STATE_CANCELLED,
      error: { code: 'cancelled', message: 'changed my mind' },
    });
  });

  test('one that was not begun is never run, and the next one gets its turn', async () => {
    const { device, stream } = await connected({ concurrency: 1 });
    const open = gate();
    const ran: string[] = [];
    device.handle(echo, async (_, { commandId }) => {
      ran.push(commandId);
      await open.passed;
    });
    for (const id of ['a', 'b', 'c']) stream.command({ id, orderingKey: 'k' });
    await stream.next('started');
    stream.cancel('b');
    expect(await stream.next('result')).toMatchObject({ commandId: 'b', state: CommandState.COMMAND_STATE_CANCELLED });
    open.open();
    await stream.next('result');
    await stream.next('result');
    expect(ran).toEqual(['a', 'c']);
  });

  test('a cancel that comes before its command makes sure that it is not run', async () => {
    const { device, stream } = await connected();
    let runs = 0;
    device.handle(echo, () => void runs++);
    stream.cancel('early');
    const { state } = await stream.next('result');
    expect(state).toBe(CommandState.COMMAND_STATE_CANCELLED);
    stream.ack();
    stream.send({ $case: 'ping', value: { nonce: 1 } });
    await stream.next('pong');
    stream.command({ id: 'early' });
    expect(await stream.next('result')).toMatchObject({ commandId: 'early', state });
    expect(runs).toBe(0);
  });

  test('a cancel that comes after the end is answered with the result there was', async () => {
    const { device, stream } = await connected();
    device.handle(echo, () => 'done', { result: echo });
    stream.command({ id: 'c1' });
    await stream.next('result');
    stream.ack();
    stream.send({ $case: 'ping', value: { nonce: 1 } });
    await stream.next('pong');
    stream.cancel('c1');
    expect(await stream.next('result')).toMatchObject({ state: CommandState.COMMAND_STATE_SUCCEEDED });
  });

  test('a streaming method is left when it is cancelled, so that it can tidy up', async () => {
    const { device, stream } = await connected();
    let isTidy = false;
    device.implement(PumpServiceDefinition, {
      start: () => ({}),
      stop: () => ({}),
      configUpdate: () => ({}),
      async *tailLog(_, { signal }) {
        try {
          for (let number = 1; ; number++) {
            yield { number };
            if (number === 3) await new Promise((resolve) => signal.addEventListener('abort', resolve));
          }
        } finally {
          isTidy = true;
        }
      },
    });
    stream.command({
      id: 'c1',
      payload: { type: 'signalbox.example.v1.PumpService/TailLog', value: new Uint8Array() },
    });
    for (let i = 0; i < 3; i++) await stream.next('progress');
    stream.cancel('c1');
    expect(await stream.next('result')).toMatchObject({ state: CommandState.COMMAND_STATE_CANCELLED });
    expect(isTidy).toBe(true);
  });
});
