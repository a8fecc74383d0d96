// better-sse on node:http: one channel, broadcast to all.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createChannel, createSession } from 'better-sse';
import { actor } from '../actor.ts';
import { machineUs, paced } from '../load.ts';

const channel = createChannel();

export const verbs = actor({
  async serve(): Promise<string> {
    const server = createServer(async (request, response) => channel.register(await createSession(request, response)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  },

  broadcast({ perSecond, seconds, bytes }: { perSecond: number; seconds: number; bytes: number }) {
    const pad = 'x'.repeat(bytes);
    return paced(perSecond, seconds, () => void channel.broadcast({ pad, t: machineUs() }, 'sample'));
  },
});
export type BetterSseVerbs = typeof verbs;
