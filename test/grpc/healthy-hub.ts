import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { openAuthenticator } from '../../src/auth/index.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import type { GrpcFact } from '../../src/grpc/facts.ts';
import { type GrpcServer, type GrpcServerOptions, serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub } from '../../src/hub/index.ts';
import { type HealthyPeers, healthyPeers } from '../support/healthy.ts';

// One server for all tests of whoever imports this: what one peer does wrong must not be felt by the next, nor by those that
// do well beside it.
export const facts: GrpcFact[] = [];
export const log = memoryEventLog();
export const maxStreams = 50;
export let hub: Hub;
export let server: GrpcServer;
export let peers: HealthyPeers;

/** Serves from before the first test to after the last, and looks after each whether only the healthy are left, and well. */
export function serveHealthy(limits: GrpcServerOptions['limits']): void {
  beforeAll(async () => {
    hub = new Hub({ log });
    server = await serveGrpc({
      hub,
      log,
      authenticator: openAuthenticator(),
      addresses: ['127.0.0.1:0'],
      limits: { maxConcurrentStreams: maxStreams, ...limits },
      observe: (fact) => facts.push(fact),
    });
    peers = await healthyPeers({ address: server.addresses[0]! });
  });
  afterEach(async () => {
    await peers.beat();
    await onlyHealthyAreLeft();
    expect(facts.filter((fact) => fact.kind === 'grpc-call-failed' && fact.code === 'internal')).toEqual([]);
    facts.length = 0;
  });
  afterAll(async () => {
    await peers[Symbol.asyncDispose]();
    await server.close({ timeoutMs: 0 });
    await hub.close();
    await log.close();
  });
}

/** The healthy device, its caller and its watcher. */
export async function onlyHealthyAreLeft(): Promise<void> {
  await expect.poll(() => server.load).toEqual({ connections: 3, deviceStreams: 1 });
  expect(hub.load).toEqual({ sessions: 1, outboxBytes: 0 });
}
