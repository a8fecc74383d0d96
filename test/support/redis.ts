import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { redisServerPath } from '../../scripts/debian.ts';
import { freePort } from './free-port.ts';
import { scratchFolder } from './scratch.ts';

export interface RedisServerOptions {
  /** Settings of redis.conf. Default: as Signalbox wants it (`appendonly yes`, `maxmemory-policy noeviction`). */
  readonly settings?: Readonly<Record<string, string>>;
  /** Follow this one. */
  readonly replicaOf?: RedisServer;
}

/** The settings that a store for several nodes needs, and no snapshots: what is kept is in the log alone. */
const durable = { appendonly: 'yes', appendfsync: 'everysec', 'maxmemory-policy': 'noeviction', save: '' };

/** A redis-server of our own, on a free port and in a folder of its own. Whoever starts it closes it. */
export class RedisServer {
  readonly port: number;
  readonly directory = scratchFolder('signalbox-redis-');
  readonly #settings: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #output = '';

  private constructor(port: number, settings: Readonly<Record<string, string>>) {
    this.port = port;
    this.#settings = settings;
  }

  /** Resolves once it takes connections. */
  static async start({ settings = {}, replicaOf }: RedisServerOptions = {}): Promise<RedisServer> {
    const following: Record<string, string> = replicaOf ? { replicaof: `127.0.0.1 ${replicaOf.port}` } : {};
    for (let attempt = 1; ; attempt++) {
      const server = new RedisServer(await freePort(), { ...durable, ...following, ...settings });
      try {
        await server.#run();
        if (replicaOf) await server.#hasCaughtUp();
        return server;
      } catch (error) {
        await server.close();
        if (attempt === 3) throw error;
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What it wrote on its log. */
  get output(): string {
    return this.#output;
  }

  /** Sends one command over a connection of its own. */
  async call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
    const client = this.client();
    try {
      return await client.call(command, ...args);
    } finally {
      client.disconnect();
    }
  }

  /** A plain connection for looking at what is kept; its user disconnects it. */
  client(): Redis {
    const client = new Redis({
      port: this.port,
      host: '127.0.0.1',
      retryStrategy: () => null,
      // Also one that loads is spoken to.
      enableReadyCheck: false,
    });
    client.on('error', () => undefined); // the call that it fails says so
    return client;
  }

  /** kill -9. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Starts it again after `kill`, on the same port. `empty`: without what it kept. Resolves once it takes connections. */
  async restart({ empty = false, settings = {} }: { empty?: boolean; settings?: Record<string, string> } = {}) {
    await this.kill();
    if (empty) rmSync(path.join(this.directory, 'appendonlydir'), { recursive: true, force: true });
    await this.#run(settings);
  }

  /** As `restart`, but resolves as soon as it listens; it may still be loading. */
  async restartLoading(settings: Record<string, string> = {}): Promise<void> {
    await this.kill();
    await this.#run(settings, /Server initialized/);
  }

  /** Kills it and removes its folder. */
  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(settings: Record<string, string> = {}, ready = /Ready to accept connections/): Promise<void> {
    const program = redisServerPath();
    if (!program) throw new Error('redis-server is not installed');
    const all = {
      port: String(this.port),
      bind: '127.0.0.1',
      dir: this.directory,
      'enable-debug-command': 'yes',
      'repl-diskless-sync-delay': '0',
      ...this.#settings,
      ...settings,
    };
    const args = Object.entries(all).flatMap(([name, value]) => [
      `--${name}`,
      ...(name === 'replicaof' || name === 'save' ? value.split(' ') : [value]),
    ]);
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    const from = this.#output.length;
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        this.#output += String(chunk);
        if (ready.test(this.#output.slice(from))) resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`redis-server ended:\n${this.#output.slice(from)}`)));
    });
  }

  async #hasCaughtUp(): Promise<void> {
    await until(async () => String(await this.call('INFO', 'replication')).includes('master_link_status:up'));
  }
}

/** Three servers that share the slots of one Redis Cluster. */
export class RedisClusterServers {
  readonly servers: readonly RedisServer[];

  private constructor(servers: readonly RedisServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<RedisClusterServers> {
    const settings = async () => ({
      'cluster-enabled': 'yes',
      'cluster-port': String(await freePort()),
      'cluster-node-timeout': '2000',
    });
    const servers = await Promise.all([0, 1, 2].map(async () => RedisServer.start({ settings: await settings() })));
    const cluster = new RedisClusterServers(servers);
    try {
      const bounds = [0, 5461, 10923, 16384];
      for (const [i, server] of servers.entries()) {
        await server.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
        await server.call('CLUSTER', 'ADDSLOTSRANGE', bounds[i]!, bounds[i + 1]! - 1);
      }
      for (const server of servers.slice(1)) {
        const port = String(await server.call('CONFIG', 'GET', 'cluster-port')).split(',')[1]!;
        await servers[0]!.call('CLUSTER', 'MEET', '127.0.0.1', server.port, port);
      }
      for (const server of servers)
        await until(async () => String(await server.call('CLUSTER', 'INFO')).includes('cluster_state:ok'));
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  /** One of its members; a client finds the others by itself. */
  get url(): string {
    return this.servers[0]!.url;
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
  }
}

/** Resolves once `isSo` holds; throws when that takes longer than `withinMs`. */
export async function until(isSo: () => Promise<boolean> | boolean, withinMs = 60_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`not so within ${withinMs} ms: ${isSo}`);
    await sleep(20);
  }
}

// A test run that is ended in the middle leaves no server behind.
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
