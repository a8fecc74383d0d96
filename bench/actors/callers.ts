// Callers in another process than the hub: all of them share one connection, as the library does it.
import { StreamingCommandClient } from '../../src/index.ts';
import { actor } from '../actor.ts';
import { blob, blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

let clients: StreamingCommandClient<Uint8Array, Uint8Array>[] = [];

export const verbs = actor({
  open({ address, prefix, count }: { address: string; prefix: string; count: number }): void {
    clients = Array.from(
      { length: count },
      (_, index) => new StreamingCommandClient({ clientId: `${prefix}-${index}`, codec: blob, result: blob, address }),
    );
  },

  commands({ seconds, bytes }: { seconds: number; bytes: number }) {
    const payload = blobOf(bytes);
    return closedLoop(clients.length, seconds, (lane) => clients[lane]!.request(payload));
  },
});
export type CallersVerbs = typeof verbs;
