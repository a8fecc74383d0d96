// Our own end of the wire without a hub: the server pushes messages on a bidi stream of node:http2, the client answers.
import { type ClientHttp2Stream, connect as connectHttp2, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

interface Peer {
  readonly stream: ServerHttp2Stream;
  heard: (bytes: number) => void;
}
const peers: Peer[] = [];
const calls: ClientHttp2Stream[] = [];
const response = { ':status': 200, 'content-type': 'application/grpc' };

/** A message as gRPC frames it. */
function framed(bytes: number): Buffer {
  const message = Buffer.alloc(5 + bytes);
  message.writeUInt32BE(bytes, 1);
  message.set(blobOf(bytes), 5);
  return message;
}

export const verbs = actor({
  serve(): Promise<string> {
    const server = createServer();
    server.on('stream', (stream) => {
      stream.respond(response);
      const peer: Peer = { stream, heard: () => undefined };
      stream.on('data', (chunk: Buffer) => peer.heard(chunk.length));
      stream.on('error', () => undefined);
      peers.push(peer);
    });
    return new Promise((resolve) =>
      server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${(server.address() as AddressInfo).port}`)),
    );
  },

  peers(): number {
    return new Set(peers.map(({ stream }) => stream.session)).size;
  },

  /** `messages` go out in one turn, joined or each by itself; the operation ends when all of them are back. */
  echo({ count, seconds, bytes, messages, joined }: EchoOptions) {
    const one = framed(bytes);
    const all = Buffer.concat(Array.from({ length: messages }, () => one));
    return closedLoop(count, seconds, (lane) => {
      const peer = peers[lane]!;
      return new Promise<void>((resolve) => {
        let left = all.length;
        peer.heard = (heard) => {
          left -= heard;
          if (left === 0) resolve();
        };
        if (joined) peer.stream.write(all);
        else for (let n = 0; n < messages; n++) peer.stream.write(one);
      });
    });
  },

  async connect({ address, count }: { address: string; count: number }): Promise<void> {
    for (let index = 0; index < count; index++) {
      const call = connectHttp2(`http://${address}`).request({ ':method': 'POST', ':path': '/' }, { endStream: false });
      call.on('data', (chunk: Buffer) => call.write(chunk));
      calls.push(call);
      await new Promise((resolve) => call.once('response', resolve));
    }
  },
});
export interface EchoOptions {
  readonly count: number;
  readonly seconds: number;
  readonly bytes: number;
  readonly messages: number;
  readonly joined: boolean;
}
export type Http2EchoVerbs = typeof verbs;
