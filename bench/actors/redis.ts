// A redis-server of its own, with the settings that Signalbox asks for; its CPU is that of the server, not of this process.
import { readFileSync } from 'node:fs';
import { RedisServer } from '../../test/support/redis.ts';
import { actor } from '../actor.ts';

let redis: RedisServer | undefined;

export const verbs = actor({
  async open(): Promise<string> {
    redis = await RedisServer.start();
    process.once('exit', () => redis && process.kill(redis.pid, 'SIGKILL'));
    return redis.url;
  },

  /** Instead of this process's own: what the server has used and holds. */
  usage() {
    if (!redis) return { cpuUs: 0, rssBytes: 0 };
    const fields = readFileSync(`/proc/${redis.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${redis.pid}/status`, 'utf8'))?.[1];
    return { cpuUs: ticks * 10_000, rssBytes: Number(rss) * 1024 };
  },
});
export type RedisVerbs = typeof verbs;
