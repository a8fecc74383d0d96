// Tasks for threads and processes.
import { threadId } from 'node:worker_threads';
import { z } from 'zod';
import { PumpServiceDefinition } from '../../../src/example/index.ts';
import { defineTask, StreamContext } from '../../../src/tasks/index.ts';

const input = z.object({ what: z.string() });

async function run({ what }: { what: string }, ctx: Parameters<Parameters<typeof defineTask>[0]['run']>[1]) {
  switch (what) {
    case 'tell':
      await ctx.progress(50, 'half');
      ctx.data({ last: ctx.lastCheckpoint ?? null });
      await ctx.checkpoint({ attempt: ctx.attempt });
      return { pid: process.pid, threadId, attempt: ctx.attempt };
    case 'spin':
      for (;;) Math.sqrt(2);
    case 'obey':
      await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
      return {};
    case 'crash':
      process.exit(7);
      return {};
    case 'throw':
      throw new Error('thrown over there');
    case 'stream': {
      const fields = { workspaceId: 'w', project: 'p', env: 'test', service: 's' };
      const stream = StreamContext.create(fields, { channelId: 'own' });
      await stream.log('from a thread');
      await stream.complete(true);
      return {};
    }
    case 'command': {
      await using pump = ctx.commands(PumpServiceDefinition, { clientId: 'pump-1' });
      const { rpm } = await pump.start({ rpm: 900 });
      const refused = await pump.stop({}).catch(({ code, message, retryAfterMs }) => ({ code, message, retryAfterMs }));
      const cancel = new AbortController();
      const cancelling = pump.configUpdate({}, { signal: cancel.signal }).catch(({ code }) => code);
      cancel.abort();
      const cancelled = await cancelling;
      const lines: string[] = [];
      for await (const { text } of pump.tailLog({ lines: 3 })) {
        lines.push(text);
        if (lines.length === 2) break;
      }
      return { rpm, refused, cancelled, lines };
    }
    default:
      return {};
  }
}

const shared = { input, module: import.meta.url, run } as const;
export const inThread = defineTask({ ...shared, id: 'in-thread', isolation: 'thread', timeout: { graceMs: 100 } });
export const inProcess = defineTask({ ...shared, id: 'in-process', isolation: 'process', timeout: { graceMs: 100 } });
