import type { ServeOptions } from '../../../src/server/index.ts';
import { Child } from './child.ts';
import type { HubProcessOptions } from './hub-process.ts';

export interface HubUsage {
  readonly rss: number;
  readonly heapUsed: number;
  /** Of buffers beside the heap. */
  readonly external: number;
  readonly resources: Readonly<Record<string, number>>;
  /** Open files and sockets; 0 where the system does not tell. */
  readonly descriptors: number;
  readonly sessions: number;
  /** Of commands that the devices of these have not acknowledged. */
  readonly outboxBytes: number;
  /** How many facts of each kind it has told; of those that have a reason, also as `<kind>: <reason>`. */
  readonly facts: Readonly<Record<string, number>>;
  readonly p99Ms: number;
}

/** A hub process that is killed and started again, always at the same addresses on the same data. */
export class HubProcess {
  readonly #options: ServeOptions;
  readonly #limit: string | undefined;
  /** Started and waiting for its options, so that the next start takes no time. */
  #spare: Child | undefined;
  child!: Child;
  grpc = '127.0.0.1:0';
  http = '127.0.0.1:0';
  starts = 0;

  constructor(options: ServeOptions, limit?: string) {
    this.#options = options;
    this.#limit = limit;
  }

  static async start(options: ServeOptions, limit?: string): Promise<HubProcess> {
    const hub = new HubProcess(options, limit);
    await hub.start();
    return hub;
  }

  /** `keepSpare`: begins the process of the next start now, for those who kill often. */
  async start({ dieAt, keepSpare = false }: { dieAt?: HubProcessOptions['dieAt']; keepSpare?: boolean } = {}) {
    const { grpc, http } = this;
    const options: HubProcessOptions = { serve: { grpc, http, ...this.#options }, dieAt };
    const limit = this.#limit === undefined ? {} : { limit: this.#limit };
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare) spare.tell(JSON.stringify(options));
    this.child = spare ?? new Child('hub-process', options, limit);
    const ready = await this.child.says<{ grpc: string[]; http: string[] }>('ready');
    this.starts++;
    this.grpc = ready.grpc[0] ?? this.grpc;
    this.http = ready.http[0] ? new URL(ready.http[0]).host : this.http;
    if (keepSpare) this.#spare = new Child('hub-process', 'waits', limit);
  }

  /** As a supervisor does: a start that Redis did not answer in time, on a machine that is too busy, is tried again. */
  async startUntilUp(): Promise<void> {
    for (let tries = 1; ; tries++)
      try {
        return await this.start({ keepSpare: true });
      } catch (error) {
        if (tries === 5 || !this.child.stderr.includes('no answer in time')) throw error;
      }
  }

  usage(): Promise<HubUsage> {
    return this.child.ask('usage', 'usage');
  }
}
