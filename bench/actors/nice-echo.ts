// nice-grpc, a unary method that answers with what it was sent. Server or caller, whichever verb is asked for.
import { createChannel, createClient, createServer } from 'nice-grpc';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

const same = (bytes: Buffer): Buffer => bytes;
const definition = {
  echo: {
    path: '/bench.Echo/Echo',
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  },
} as const;
let echo: (bytes: Buffer) => Promise<Buffer>;

export const verbs = actor({
  async serve(): Promise<string> {
    const server = createServer();
    server.add(definition, { echo: async (bytes: Buffer) => bytes });
    return `127.0.0.1:${await server.listen('127.0.0.1:0')}`;
  },

  connect({ address }: { address: string }): void {
    const client = createClient(definition, createChannel(address));
    echo = (bytes) => client.echo(bytes);
  },

  call({ count, seconds, bytes }: { count: number; seconds: number; bytes: number }) {
    const payload = blobOf(bytes);
    return closedLoop(count, seconds, () => echo(payload));
  },
});
export type NiceEchoVerbs = typeof verbs;
