// Tasks for hubs that are killed: each step is told, kept by a checkpoint, and written into a file of its own account.
import { appendFileSync } from 'node:fs';
import { z } from 'zod';
import { defineTask } from '../../../src/tasks/index.ts';

const input = z.object({ n: z.number(), steps: z.number(), stepMs: z.number(), ledger: z.string() });

async function run(
  { n, steps, stepMs, ledger }: z.infer<typeof input>,
  ctx: Parameters<Parameters<typeof defineTask>[0]['run']>[1],
) {
  for (let step = ((ctx.lastCheckpoint as number | undefined) ?? 0) + 1; step <= steps; step++) {
    await new Promise((resolve) => setTimeout(resolve, stepMs));
    ctx.signal.throwIfAborted();
    appendFileSync(ledger, `${n} ${step}\n`);
    await ctx.data(step);
    await ctx.checkpoint(step);
  }
  return { n };
}

export const stepping = defineTask({ id: 'stepping', input, run });
export const steppingInThread = defineTask({
  id: 'stepping-in-thread',
  input,
  isolation: 'thread',
  module: import.meta.url,
  run,
});
