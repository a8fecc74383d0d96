import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { type MountOptions, mount } from '../../src/grpc/mount.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { PumpAnswer, PumpCommand, StopRequest } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { collect, testCommand } from '../../src/testing/index.ts';
import { openAuthenticator } from './fake-hub.ts';
import { asIs, clientOf, ended, metadataOf } from './harness.ts';

// A service of a user's own, as its generated code describes it.
const legacy = {
  name: 'LegacyService',
  fullName: 'legacy.LegacyService',
  methods: {
    connect: {
      name: 'Connect',
      requestType: PumpAnswer,
      requestStream: true,
      responseType: PumpCommand,
      responseStream: true,
    },
    ask: {
      name: 'Ask',
      requestType: StopRequest,
      requestStream: false,
      responseType: StopRequest,
      responseStream: false,
    },
  },
} as const;

type Options = MountOptions<PumpAnswer, PumpCommand>;
const command = (rpm: number) => ({
  type: PumpCommand.$type,
  value: PumpCommand.encode(PumpCommand.fromPartial({ kind: { $case: 'start', value: { rpm } } })).finish(),
});

async function start(options: Options) {
  const hub = new Hub();
  const server = await serveGrpc({
    hub,
    authenticator: openAuthenticator,
    addresses: ['127.0.0.1:0'],
    mounts: [mount(legacy, 'connect', options)],
  });
  onTestFinished(async () => {
    await server.close({ timeoutMs: 0 });
    await hub.close();
  });
  const client = clientOf(server.addresses[0]!);
  const open = (metadata: Record<string, string> = {}) => {
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(
      '/legacy.LegacyService/Connect',
      asIs,
      asIs,
      metadataOf(metadata),
    );
    call.on('error', () => undefined);
    return call;
  };
  const connected = async (id: string) => {
    while (!hub.clients.isConnected('default', id)) await new Promise((resolve) => setImmediate(resolve));
  };
  return { hub, open, connected };
}

const byMetadata: Options['identify'] = (_, metadata) => {
  const clientId = metadata.get('pump-id')[0];
  return clientId === undefined ? undefined : { clientId: String(clientId), labels: { kind: 'legacy' } };
};
const answer = () => Buffer.from(PumpAnswer.encode(PumpAnswer.fromPartial({})).finish());

describe('a mounted method', () => {
  test('gets commands as its own message, and its answers are their results, oldest first', async () => {
    const { hub, open, connected } = await start({ identify: byMetadata, ackOf: () => ({ result: 'message' }) });
    const call = open({ 'pump-id': 'pump-7' });
    const got: PumpCommand[] = [];
    call.on('data', (bytes: Buffer) => {
      got.push(PumpCommand.decode(bytes));
      call.write(answer());
    });
    await connected('pump-7');
    expect(hub.clients.get('default', 'pump-7')).toMatchObject({
      labels: { kind: 'legacy' },
      agent: 'legacy.LegacyService/Connect',
    });
    const ends = await Promise.all(
      [1, 2, 3].map(async (rpm) => (await collect(hub.send(testCommand({ payload: command(rpm) })))).at(-1)!),
    );
    expect(ends.map((end) => end.state === 'succeeded' && end.result.type)).toEqual(Array(3).fill(PumpAnswer.$type));
    expect(got.map(({ kind }) => kind)).toEqual([1, 2, 3].map((rpm) => ({ $case: 'start', value: { rpm } })));
  });

  test('may say who it is by its first message, which answers nothing', async () => {
    let asked = 0;
    const { hub, open, connected } = await start({
      identify: (message) => (message === undefined ? undefined : { clientId: `pump-${++asked}` }),
      ackOf: () => ({ error: { code: 'too-hot', message: 'it is' } }),
    });
    const call = open();
    call.write(answer());
    await connected('pump-1');
    call.on('data', () => call.write(answer()));
    const updates = await collect(hub.send(testCommand({ clientId: 'pump-1', payload: command(1) })));
    expect(updates.at(-1)).toMatchObject({ state: 'failed', error: { code: 'too-hot' } });
  });

  test('answers by its own ids in any order; an answer that is not the last one means delivered', async () => {
    const rpmOf = ({ kind }: PumpCommand) => (kind?.$case === 'start' ? String(kind.value.rpm) : undefined);
    let isFinal = false;
    const order = ['2', '1'];
    const { hub, open, connected } = await start({
      identify: byMetadata,
      idOf: rpmOf,
      ackOf: () => (isFinal ? { commandId: order.shift()! } : { commandId: '1', isFinal: false }),
    });
    const call = open({ 'pump-id': 'pump-7' });
    const got: string[] = [];
    call.on('data', (bytes: Buffer) => got.push(rpmOf(PumpCommand.decode(bytes))!));
    await connected('pump-7');
    const ended: string[] = [];
    const one = collect(hub.send(testCommand({ id: 'one', payload: command(1) }))).finally(() => ended.push('one'));
    const two = collect(hub.send(testCommand({ id: 'two', payload: command(2) }))).finally(() => ended.push('two'));
    while (got.length < 2) await new Promise((resolve) => setImmediate(resolve));
    call.write(answer());
    while ((await hub.get('default', 'one')).last.state === 'sent')
      await new Promise((resolve) => setImmediate(resolve));
    isFinal = true;
    call.write(answer());
    await two;
    call.write(answer());
    expect((await one).map(({ state }) => state)).toEqual(['queued', 'sent', 'delivered', 'started', 'succeeded']);
    expect(ended).toEqual(['two', 'one']);
  });

  test('that names nobody, or is refused, does not get in', async () => {
    const { open } = await start({
      identify: (message) => {
        if (message === undefined) return undefined;
        throw new HubError('permission-denied', 'not you');
      },
      ackOf: () => undefined,
    });
    const call = open();
    call.write(answer());
    expect((await ended(call.resume())).code).not.toBe(status.UNKNOWN);
  });

  test('has to stream both ways, and to be there', () => {
    const options = { identify: () => undefined, ackOf: () => undefined };
    expect(() => mount(legacy, 'ask', options)).toThrow('legacy.LegacyService/Ask does not stream both ways');
    expect(() => mount(legacy, 'nothing' as 'ask', options)).toThrow('no method "nothing"');
  });
});
