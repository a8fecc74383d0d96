// A node as `signalbox serve --redis` has it, and the commands of a caller in the same process.
import { StreamingCommandClient } from '../../src/commands/index.ts';
import { channelKey } from '../../src/events/channels.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { actor } from '../actor.ts';
import { blob, blobOf } from '../blob.ts';
import { closedLoop, machineUs, paced } from '../load.ts';

let server: SignalboxServer;
const clients = new Map<string, StreamingCommandClient<Uint8Array, Uint8Array>>();

export const verbs = actor({
  async open({ redis, node }: { redis: string; node: string }): Promise<{ grpc: string; http: string }> {
    server = await serve(
      { redis, node, grpc: '127.0.0.1:0', http: '127.0.0.1:0', logLevel: 'error', nodeLeaseMs: 5000 },
      { sources: { env: {}, cwd: '/' } },
    );
    return { grpc: server.grpc[0]!, http: new URL(server.http[0]!).host };
  },

  sessions: (): number => server.hub.load.sessions,

  commands({
    prefix,
    count,
    seconds,
    bytes,
    whenOffline,
  }: {
    prefix: string;
    count: number;
    seconds: number;
    bytes: number;
    whenOffline?: 'fail' | 'queue';
  }) {
    const payload = blobOf(bytes);
    const all = Array.from({ length: count }, (_, index) => {
      const clientId = `${prefix}-${index}`;
      let client = clients.get(clientId);
      if (!client) {
        client = new StreamingCommandClient({ clientId, codec: blob, result: blob, transport: server.road });
        clients.set(clientId, client);
      }
      return client;
    });
    return closedLoop(count, seconds, (lane) => all[lane]!.request(payload, { whenOffline }));
  },

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
      void server.log.append(channelKey('default', channel), event);
    });
  },
});
export type NodeVerbs = typeof verbs;
