import { Client, credentials, Metadata, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';
import type { GrpcFact } from '../../src/grpc/facts.ts';
import { type GrpcServer, type GrpcServerOptions, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { encodeUp, type UpFrame } from '../../src/protocol/frames.ts';
import { FakeHub, openAuthenticator } from './fake-hub.ts';

export const connectPath = '/signalbox.v1.DeviceService/Connect';
export const asIs = (bytes: Buffer): Buffer => bytes;

/** A server over a hub that only remembers, and a raw client of it, until the test ends. */
export async function start(
  options: Partial<GrpcServerOptions> = {},
): Promise<{ hub: FakeHub; server: GrpcServer; client: Client; facts: GrpcFact[] }> {
  const hub = new FakeHub();
  const facts: GrpcFact[] = [];
  const server = await serveGrpc({
    hub,
    authenticator: openAuthenticator,
    addresses: ['127.0.0.1:0'],
    observe: (fact) => facts.push(fact),
    ...options,
  });
  onTestFinished(() => server.close({ timeoutMs: 0 }));
  return { hub, server, client: clientOf(server.addresses[0]!), facts };
}

export function clientOf(address: string): Client {
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  onTestFinished(() => client.close());
  return client;
}

export function connect(client: Client, metadata: Record<string, string> = {}) {
  const call = client.makeBidiStreamRequest<Buffer, Buffer>(connectPath, asIs, asIs, metadataOf(metadata));
  call.on('error', () => undefined);
  return call;
}

/** How a call ended. */
export function ended(call: { on(event: 'status', run: (end: StatusObject) => void): unknown }): Promise<StatusObject> {
  return new Promise((resolve) => call.on('status', resolve));
}

/** A unary call of raw bytes: the answer, or the error as a value. */
export function unary(
  client: Client,
  path: string,
  request: Uint8Array = new Uint8Array(),
  metadata: Record<string, string> = {},
): Promise<Buffer | ServiceError> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, asIs, asIs, Buffer.from(request), metadataOf(metadata), (error, answer) =>
      resolve(error ?? answer!),
    );
  });
}

export function metadataOf(entries: Record<string, string>): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(entries)) metadata.set(key, value);
  return metadata;
}

export function helloOf(clientId: string): UpFrame {
  const value = {
    clientId,
    bootId: 'b',
    journalId: 'j',
    protocol: 1,
    labels: {},
    resume: undefined,
    inFlight: [],
    window: 0,
    agent: '',
  };
  return { seq: 0, ack: 0, body: { $case: 'hello', value } };
}

export const hello = (clientId: string): Buffer => encodeUp(helloOf(clientId));
