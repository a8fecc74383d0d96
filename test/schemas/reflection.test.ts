import { Client, credentials } from '@grpc/grpc-js';
import { createServer } from 'nice-grpc';
import { ServerReflection, ServerReflectionService } from 'nice-grpc-server-reflection';
import { expect, onTestFinished, test } from 'vitest';
import { descriptors } from '../../src/grpc/descriptors.ts';
import { schemasFromReflection } from '../../src/schemas/index.ts';

async function clientOf(services: readonly string[] | undefined): Promise<Client> {
  const server = createServer();
  if (services)
    server.add(ServerReflectionService, ServerReflection(Buffer.from(descriptors, 'base64'), [...services]));
  const port = await server.listen('127.0.0.1:0');
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  onTestFinished(() => {
    client.close();
    return server.forceShutdown();
  });
  return client;
}

test('a server tells its services with everything that their files import', async () => {
  const schemas = await schemasFromReflection(
    await clientOf(['signalbox.example.v1.PumpService', 'signalbox.v1.DeviceService']),
  );
  expect(schemas.encode({ method: 'start', json: { rpm: 7 } }).type).toBe('signalbox.example.v1.PumpService/Start');
  // device.proto imports command.proto, which no service of this server is in.
  expect(schemas.encode({ type: 'signalbox.v1.Payload', json: { type: 'x' } }).type).toBe('signalbox.v1.Payload');
});

test('a server without reflection is told from one that is not there', async () => {
  await expect(schemasFromReflection(await clientOf(undefined))).rejects.toMatchObject({ code: 'unimplemented' });
  const nobody = new Client('127.0.0.1:1', credentials.createInsecure());
  onTestFinished(() => nobody.close());
  await expect(schemasFromReflection(nobody)).rejects.toMatchObject({ code: 'unavailable' });
});
