import { tmpdir } from 'node:os';
import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { type ServeOptions, serve } from '../../src/server/index.ts';

async function open(options: ServeOptions) {
  const addresses = { grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', preset: 'test' } as const;
  const server = await serve({ ...addresses, ...options }, { sources: { env: {}, cwd: tmpdir() } });
  onTestFinished(() => server.close());
  return server;
}

test('the idle limit of event streams is an option of the process, as is their keepalive', async () => {
  const { http } = await open({ sseIdleLimitMs: 300, sseKeepaliveMs: 100 });
  const text = await (await fetch(`${http[0]}/v1/events?channel=fleet`)).text();
  expect(text).toMatch(/event: hub\.idle\ndata: .*"idleLimitMs":300/);
  expect(text.match(/^:/gm)?.length).toBeGreaterThan(1);
});

test('a payload that the hub takes fits into a request, however large the hub was told to take them', async () => {
  const { grpc, http } = await open({ maxMessageBytes: 4 * 1024 * 1024 });
  await using device = await connectDevice({ address: grpc[0]!, clientId: 'd1' });
  let length = 0;
  device.handle(
    { type: 'test.Bytes', encode: (value: Uint8Array) => value, decode: (bytes: Uint8Array) => bytes },
    (bytes) => {
      length = bytes.length;
      return bytes.subarray(0, 1);
    },
  );
  const response = await fetch(`${http[0]}/v1/clients/d1/commands`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'test.Bytes', payloadBase64: Buffer.alloc(3_000_000, 7).toString('base64') }),
  });
  expect(await response.json()).toMatchObject({ state: 'succeeded' });
  expect(length).toBe(3_000_000);
});
