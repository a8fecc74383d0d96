// NATS request/reply through a nats-server. Owner of the server, responder or caller, whichever verb is asked for.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { actor, type Usage } from '../actor.ts';
import { blobOf } from '../blob.ts';
import { closedLoop } from '../load.ts';

let server: ChildProcess | undefined;
let connection: NatsConnection;
/** Us in one tick of /proc; 100 a second on every Linux. */
const tickUs = 10_000;

export const verbs = actor({
  async serve(): Promise<string> {
    const child = spawn('nats-server', ['-a', '127.0.0.1', '-p', '-1'], { stdio: ['ignore', 'ignore', 'pipe'] });
    server = child;
    process.once('exit', () => child.kill());
    for await (const text of child.stderr) {
      const address = /Listening for client connections on (\S+)/.exec(String(text))?.[1];
      if (address !== undefined) return address;
    }
    throw new Error('nats-server ended before it listened');
  },

  /** Of the nats-server, where this process owns one. */
  usage(): Usage {
    if (server === undefined) {
      const { user, system } = process.cpuUsage();
      return { cpuUs: user + system, rssBytes: process.memoryUsage.rss() };
    }
    const fields = readFileSync(`/proc/${server.pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return { cpuUs: (Number(fields[11]) + Number(fields[12])) * tickUs, rssBytes: 0 };
  },

  async respond({ address, count }: { address: string; count: number }): Promise<void> {
    connection = await connect({ servers: address });
    for (let index = 0; index < count; index++)
      connection.subscribe(`device.${index}`, { callback: (_, message) => void message.respond(message.data) });
    await connection.flush();
  },

  async connect({ address }: { address: string }): Promise<void> {
    connection = await connect({ servers: address });
  },

  call({ count, seconds, bytes }: { count: number; seconds: number; bytes: number }) {
    const payload = blobOf(bytes);
    return closedLoop(count, seconds, (lane) => connection.request(`device.${lane}`, payload, { timeout: 10_000 }));
  },
});
export type NatsVerbs = typeof verbs;
