import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from 'vitest';
import { type GrpcServer, type GrpcServerOptions, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { decodeDown, encodeUp, type UpFrame } from '../../src/protocol/frames.ts';
import { authenticatorOf, FakeHub, openAuthenticator, principal } from './fake-hub.ts';

const connectPath = '/signalbox.v1.DeviceService/Connect';
const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});

async function start(
  options: Partial<GrpcServerOptions> = {},
): Promise<{ hub: FakeHub; server: GrpcServer; client: Client }> {
  const hub = new FakeHub();
  const server = await serveGrpc({ hub, authenticator: openAuthenticator, addresses: ['127.0.0.1:0'], ...options });
  opened.push(server);
  const client = new Client(server.addresses[0]!, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  opened.push(client);
  return { hub, server, client };
}

function connect(client: Client, metadata = new Metadata()) {
  return client.makeBidiStreamRequest<Buffer, Buffer>(
    connectPath,
    (b) => b,
    (b) => b,
    metadata,
  );
}

const hello = (clientId: string): UpFrame => ({
  seq: 0,
  ack: 0,
  body: {
    $case: 'hello',
    value: {
      clientId,
      bootId: 'b',
      journalId: 'j',
      protocol: 1,
      labels: {},
      resume: undefined,
      inFlight: [],
      window: 0,
      agent: '',
    },
  },
});

describe('a device stream', () => {
  test('is handed to the hub with the identity of its credential, frames in order', async () => {
    const { hub, client } = await start({
      authenticator: authenticatorOf((token) => principal({ tenant: 'acme', clientId: token, expiresAtMs: 9e12 })),
    });
    const metadata = new Metadata();
    metadata.set('authorization', 'Bearer pump-7');
    const call = connect(client, metadata);
    call.write(encodeUp(hello('pump-7')));
    for (let nonce = 1; nonce <= 40; nonce++)
      call.write(encodeUp({ seq: 0, ack: 0, body: { $case: 'ping', value: { nonce } } }));
    await hub.until(() => hub.taken.length === 1);
    const taken = hub.taken[0]!;
    await taken.until(({ frames }) => frames.length === 41);
    expect(taken.identity).toEqual({ tenant: 'acme', clientId: 'pump-7', expiresAtMs: 9e12 });
    expect(taken.frames[0]).toEqual(hello('pump-7'));
    expect(taken.frames.slice(1).map((f) => f.body?.$case === 'ping' && f.body.value.nonce)).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    const got: number[] = [];
    call.on('data', (bytes: Buffer) => got.push(decodeDown(bytes).seq));
    const ended = new Promise<{ code: number }>((resolve) => call.on('status', resolve));
    for (let seq = 1; seq <= 100; seq++) taken.stream.send({ seq, ack: 0, body: undefined });
    taken.stream.close();
    expect((await ended).code).toBe(status.OK);
    expect(got).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    await taken.until(({ closed }) => closed > 0);
    expect(taken.closed).toBe(1);
  });
});
