// A hub as `signalbox serve` has it: gRPC for devices and callers, HTTP for watchers.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openAuthenticator } from '../../src/auth/index.ts';
import { StreamingCommandClient } from '../../src/commands/index.ts';
import { channelKey } from '../../src/events/channels.ts';
import type { EventLog } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { serveGateway } from '../../src/gateway/index.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { actor } from '../actor.ts';
import { blob, blobOf } from '../blob.ts';
import { closedLoop, machineUs, openLoop, paced } from '../load.ts';
import { loopFirst } from '../processor.ts';

let hub: Hub;
let log: EventLog;
const clients = new Map<string, StreamingCommandClient<Uint8Array, Uint8Array>>();

interface Lanes {
  /** Devices `<prefix>-0` to `<prefix>-<count - 1>`. */
  prefix: string;
  count: number;
  seconds: number;
  bytes: number;
  whenOffline?: 'fail' | 'queue';
}

export const verbs = actor({
  async open({ store = 'memory' }: { store?: 'memory' | 'sqlite' }): Promise<{ grpc: string; http: string }> {
    let commands = memoryCommandStore();
    log = memoryEventLog();
    if (store === 'sqlite') {
      const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-bench-'));
      process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
      ({ commands, log } = await openSqlite({ directory }));
    }
    hub = new Hub({ log, commands });
    const authenticator = openAuthenticator();
    const addresses = ['127.0.0.1:0'];
    const grpc = await serveGrpc({ hub, log, authenticator, addresses });
    const gateway = await serveGateway({ hub, log, authenticator, addresses });
    return { grpc: grpc.addresses[0]!, http: new URL(gateway.urls[0]!).host };
  },

  /** Peers that are connected: as many as clients, or a measurement would be of something else. */
  peers(): number {
    return new Set(hub.clients.list('default', { connectedOnly: true }).map(({ peer }) => peer)).size;
  },

  loopFirst,

  /** Each device has one command at a time, with its result. */
  commands({ prefix, count, seconds, bytes, whenOffline }: Lanes) {
    const payload = blobOf(bytes);
    const all = clientsOf(prefix, count);
    return closedLoop(count, seconds, (lane) => all[lane]!.request(payload, { whenOffline }));
  },

  /** So many commands a second, whatever the devices do. */
  pacedCommands({ prefix, count, seconds, bytes, whenOffline, perSecond }: Lanes & { perSecond: number }) {
    const payload = blobOf(bytes);
    const all = clientsOf(prefix, count);
    return openLoop(count, perSecond, seconds, (lane) => all[lane]!.request(payload, { whenOffline }));
  },

  /** Events with the time of their making, for watchers to read. */
  publish({
    channel,
    perSecond,
    seconds,
    bytes,
  }: {
    channel: string;
    perSecond: number;
    seconds: number;
    bytes: number;
  }) {
    const pad = 'x'.repeat(bytes);
    return paced(perSecond, seconds, () => {
      const event = { type: 'sample', atMs: Date.now(), data: { pad, t: machineUs() }, durable: false, bytes };
      void log.append(channelKey('default', channel), event);
    });
  },
});
export type HubVerbs = typeof verbs;

function clientsOf(prefix: string, count: number): StreamingCommandClient<Uint8Array, Uint8Array>[] {
  return Array.from({ length: count }, (_, index) => {
    const clientId = `${prefix}-${index}`;
    let client = clients.get(clientId);
    if (client === undefined) {
      client = new StreamingCommandClient({ clientId, codec: blob, result: blob, transport: hub });
      clients.set(clientId, client);
    }
    return client;
  });
}
