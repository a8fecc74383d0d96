import { monitorEventLoopDelay } from 'node:perf_hooks';

/** What an actor can do: each verb takes one value and gives one, both fit for `structuredClone`. */
// biome-ignore lint/suspicious/noExplicitAny: verbs of any kind
export type Verbs = Record<string, (value: any) => unknown>;

/** What a process has used since it began, and holds now. */
export interface Usage {
  /** User and system time of all its threads, in us. */
  cpuUs: number;
  rssBytes: number;
}

/** How long the event loop kept others waiting, in ms. */
export interface LoopDelay {
  p99Ms: number;
  maxMs: number;
}

let loop: ReturnType<typeof monitorEventLoopDelay> | undefined;

const standardVerbs = {
  usage(): Usage {
    const { user, system } = process.cpuUsage();
    return { cpuUs: user + system, rssBytes: process.memoryUsage.rss() };
  },
  /** Collects garbage first, so that memory is what is held and not what was. */
  async settledUsage(): Promise<Usage> {
    for (let round = 0; round < 3; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return standardVerbs.usage();
  },
  loopBegin(): void {
    loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
  },
  loopEnd(): LoopDelay {
    loop?.disable();
    // The histogram counts its own tick of 1 ms as delay.
    return { p99Ms: Math.max(0, (loop?.percentile(99) ?? 0) / 1e6 - 1), maxMs: (loop?.max ?? 0) / 1e6 };
  },
};

export type StandardVerbs = typeof standardVerbs;

/** Makes this process an actor: it does what the bench that started it asks for, and ends with it. */
export function actor<V extends Verbs>(own: V): V {
  const verbs: Verbs = { ...standardVerbs, ...own };
  process.on('message', async ({ id, verb, value }: { id: number; verb: string; value: unknown }) => {
    try {
      const run = verbs[verb];
      if (run === undefined) throw new Error(`no verb ${verb}`);
      process.send?.({ id, value: await run(value) });
    } catch (error) {
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
  process.once('disconnect', () => process.exit());
  return own;
}
