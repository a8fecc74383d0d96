// Bare grpc-js: the server pushes bytes on a bidi stream, the client sends them back. No features at all.
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
} from '@grpc/grpc-js';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

const path = '/bench.Echo/Connect';
const same = (bytes: Buffer): Buffer => bytes;

interface Peer {
  readonly call: ServerDuplexStream<Buffer, Buffer>;
  answered: (() => void) | undefined;
}
const peers: Peer[] = [];
const calls: ClientDuplexStream<Buffer, Buffer>[] = [];

export const verbs = actor({
  serve(): Promise<string> {
    const server = new Server({ 'grpc.enable_channelz': 0 });
    const handle = (call: ServerDuplexStream<Buffer, Buffer>): void => {
      call.sendMetadata(new Metadata());
      const peer: Peer = { call, answered: undefined };
      call.on('data', () => peer.answered?.());
      call.on('error', () => undefined);
      peers.push(peer);
    };
    server.register(path, handle, same, same, 'bidi');
    return new Promise((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(`127.0.0.1:${port}`),
      ),
    );
  },

  peers(): number {
    return new Set(peers.map(({ call }) => call.getPeer())).size;
  },

  echo({ count, seconds, bytes }: { count: number; seconds: number; bytes: number }) {
    const payload = blobOf(bytes);
    return closedLoop(count, seconds, (lane) => {
      const peer = peers[lane]!;
      return new Promise<void>((resolve) => {
        peer.answered = resolve;
        peer.call.write(payload);
      });
    });
  },

  async connect({ address, count }: { address: string; count: number }): Promise<void> {
    const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 };
    for (let index = 0; index < count; index++) {
      const client = new Client(address, credentials.createInsecure(), options);
      const call = client.makeBidiStreamRequest<Buffer, Buffer>(path, same, same);
      call.on('data', (bytes: Buffer) => call.write(bytes));
      call.on('error', (error) => {
        throw error;
      });
      calls.push(call);
      await new Promise((resolve) => call.once('metadata', resolve));
    }
  },
});
export type GrpcEchoVerbs = typeof verbs;
