import { existsSync, readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'vitest';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What this process holds on to. */
export interface Footprint {
  /** Sockets, servers, pipes and threads of the event loop, by kind. */
  readonly handles: Readonly<Record<string, number>>;
  /** Open files and sockets; 0 where the system does not tell. */
  readonly descriptors: number;
  /** Of the heap and of buffers beside it, after a collection. */
  readonly bytes: number;
}

export function footprint(): Footprint {
  collectGarbage();
  collectGarbage();
  const handles: Record<string, number> = {};
  // Timers come and go with the test runner's own.
  for (const kind of process.getActiveResourcesInfo())
    if (!/^(Timeout|Immediate|FSReq|GetAddrInfo|CloseReq|TickObject)/.test(kind))
      handles[kind] = (handles[kind] ?? 0) + 1;
  const descriptors = existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0;
  const { heapUsed, external } = process.memoryUsage();
  return { handles, descriptors, bytes: heapUsed + external };
}

/**
 * Does it all, often, and compares what this process holds afterwards with what it held after the first few times: as many
 * handles and open files, and no more memory than a leak of a few KB each time would need. `settle` waits until peers
 * are gone.
 */
export async function costsNothing(
  all: () => Promise<void>,
  { times = 20, warmUp = 3, settle = async () => undefined, megabytes = 6 }: CostsNothingOptions = {},
): Promise<void> {
  for (let i = 0; i < warmUp; i++) await all();
  await settle();
  const base = footprint();
  for (let i = 0; i < times; i++) await all();
  await settle();
  // Idle connections of `fetch` may be fewer by now; more is what must not be.
  const more = (): Record<string, number> => {
    const now = footprint();
    const counts = { ...now.handles, descriptors: now.descriptors };
    const before: Record<string, number> = { ...base.handles, descriptors: base.descriptors };
    return Object.fromEntries(
      Object.entries(counts).flatMap(([kind, count]) =>
        count > (before[kind] ?? 0) ? [[kind, count - (before[kind] ?? 0)]] : [],
      ),
    );
  };
  await expect.poll(more).toEqual({});
  const grownMb = (footprint().bytes - base.bytes) / 2 ** 20;
  expect(grownMb, `MB more after ${times} times`).toBeLessThan(megabytes);
}

export interface CostsNothingOptions {
  readonly times?: number;
  readonly warmUp?: number;
  readonly settle?: () => Promise<unknown>;
  readonly megabytes?: number;
}
