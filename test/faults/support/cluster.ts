import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { type GrpcTransport, grpcTransport } from '../../../src/grpc/index.ts';
import type { ServeOptions } from '../../../src/server/index.ts';
import { RedisServer } from '../../support/redis.ts';
import { Child, killAll } from './child.ts';
import type { DeviceProcessOptions } from './device-process.ts';
import { HubProcess } from './hub.ts';
import { type CallerLine, type EffectLine, Ledger, readLedger } from './ledger.ts';

/** Nodes in processes of their own over a Redis of their own, with ledgers; all gone when the test ends. */
export class ClusterWorld {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'signalbox-cluster-'));
  readonly redis: RedisServer;
  readonly nodes: HubProcess[] = [];
  readonly queued: Ledger<CallerLine>;
  /** Live commands have a ledger of their own: their callers may be told honestly that nobody knows. */
  readonly live: Ledger<CallerLine>;
  readonly #transports: GrpcTransport[] = [];

  private constructor(redis: RedisServer) {
    this.redis = redis;
    this.queued = new Ledger(path.join(this.folder, 'queued'));
    this.live = new Ledger(path.join(this.folder, 'live'));
    onTestFinished(async () => {
      for (const transport of this.#transports) await transport.close();
      await killAll();
      await redis.close();
      this.queued.close();
      this.live.close();
      rmSync(this.folder, { recursive: true, force: true });
    });
  }

  /**
   * `road`: how nodes reach Redis, to put faults in between. `appendfsync`: for tests that kill Redis itself it has to be
   * `always`, as with `everysec` it may answer before it writes.
   */
  static async open(
    count: number,
    options: ServeOptions = {},
    {
      appendfsync = 'everysec',
      road = async ({ url }: RedisServer) => url,
    }: { appendfsync?: 'everysec' | 'always'; road?: (redis: RedisServer) => Promise<string> } = {},
  ): Promise<ClusterWorld> {
    const world = new ClusterWorld(await RedisServer.start({ settings: { appendfsync } }));
    const redis = await road(world.redis);
    for (let i = 0; i < count; i++) await world.add({ redis, ...options });
    return world;
  }

  /** Starts a further node. */
  async add(options: ServeOptions): Promise<HubProcess> {
    const node = await HubProcess.start({
      node: `node-${this.nodes.length + 1}`,
      nodeLeaseMs: 2000,
      heartbeatMs: 1000,
      livenessMs: 1500,
      resumeWindowMs: 2000,
      drainReconnectAfterMs: 100,
      drainSpreadMs: 1000,
      drainTimeoutMs: 4000,
      ...options,
    });
    this.nodes.push(node);
    return node;
  }

  get address(): string {
    return this.nodes.map(({ grpc }) => grpc).join(',');
  }

  devices(names: readonly string[], options: Partial<DeviceProcessOptions> = {}): Child {
    return new Child('device-process', {
      address: this.address,
      names,
      journals: path.join(this.folder, 'journals'),
      effects: path.join(this.folder, 'effects'),
      ...options,
    } satisfies DeviceProcessOptions);
  }

  /** A caller who knows all nodes. */
  transport(): GrpcTransport {
    const transport = grpcTransport({ address: this.address });
    this.#transports.push(transport);
    return transport;
  }

  get effects(): EffectLine[] {
    return readLedger(path.join(this.folder, 'effects'));
  }

  lines(ledger: 'queued' | 'live'): CallerLine[] {
    return readLedger(path.join(this.folder, ledger));
  }
}
