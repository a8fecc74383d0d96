// A fleet rollout as a task: batches, an abort threshold, a checkpoint after each batch; the hub is closed in the middle, and it goes on.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { HubError } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { defineTask } from 'signalbox/tasks';
import { z } from 'zod';
import { connectPump } from '../support.ts';

const state = z.object({ done: z.array(z.string()), failed: z.array(z.string()) });

export const rollout = defineTask({
  id: 'rollout',
  input: z.object({
    clientIds: z.array(z.string()).min(1),
    maxRpm: z.int(),
    batchSize: z.int().min(1).default(2),
    pauseMs: z.int().min(0).default(0),
    abortAfterFailures: z.int().min(1).default(2),
  }),
  output: state,
  events: { batch: z.object({ ok: z.array(z.string()), failed: z.array(z.string()) }) },
  // One rollout at a time.
  concurrency: { onFull: 'reject' },
  async run({ clientIds, maxRpm, batchSize, pauseMs, abortAfterFailures }, ctx) {
    const { done, failed } = state.parse(ctx.lastCheckpoint ?? { done: [], failed: [] });
    const left = clientIds.filter((id) => !done.includes(id) && !failed.includes(id));
    while (left.length > 0) {
      ctx.signal.throwIfAborted();
      const batch = left.splice(0, batchSize);
      const outcomes = await Promise.all(
        batch.map(async (clientId) => {
          await using pump = ctx.commands(PumpServiceDefinition, { clientId });
          // A batch that was under way at a crash is sent again: the same key, and a setting, so that twice is once.
          const options = { idempotencyKey: `${ctx.runId}-${clientId}`, idempotent: true, waitForConnectMs: 2000 };
          return pump.configUpdate({ config: { maxRpm } }, options).then(
            () => true,
            (error: HubError) => {
              ctx.error(`${clientId}: ${error.message}`, { code: error.code });
              return false;
            },
          );
        }),
      );
      const ok = batch.filter((_, i) => outcomes[i]);
      done.push(...ok);
      failed.push(...batch.filter((_, i) => !outcomes[i]));
      await ctx.checkpoint({ done, failed });
      await ctx.emit('batch', { ok, failed: batch.filter((id) => !ok.includes(id)) });
      ctx.progress(((done.length + failed.length) / clientIds.length) * 100, `${done.length} done`);
      if (failed.length >= abortAfterFailures)
        throw new HubError('invalid-argument', `aborted: ${failed.join(', ')} did not take it`);
      if (left.length > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    return { done, failed };
  },
});

const data = mkdtempSync(path.join(tmpdir(), 'signalbox-rollout-'));
const open = (grpc: string) =>
  serve(
    {
      grpc,
      http: false,
      data,
      logLevel: 'error',
      drainTimeoutMs: 0,
      drainReconnectAfterMs: 100,
      drainSpreadMs: 0,
      preset: 'test',
    },
    { tasks: [rollout] },
  );

try {
  const first = await open('127.0.0.1:0');
  const [address] = first.grpc as [string];
  await using _devices = new AsyncDisposableStack();
  const clientIds = Array.from({ length: 6 }, (_, i) => `pump-${i + 1}`);
  for (const clientId of clientIds) _devices.use(await connectPump({ address, clientId }));

  const input = { clientIds, maxRpm: 900, pauseMs: 300 };
  const handle = await first.tasks.trigger(rollout, input);
  await first.tasks.trigger(rollout, input).catch((error: HubError) => console.log(`a second one: ${error.code}`));
  for await (const { event } of handle.events()) {
    if (event.type !== 'batch') continue;
    console.log(`before: ${JSON.parse(event.dataJson()).data.ok.join(' ')}`);
    break;
  }
  await first.close();

  // The next process: the devices come back to it, and the rollout goes on after its last batch.
  await using second = await open(address);
  const { done } = (await (await second.tasks.get(handle.id)).result()) as { done: string[] };
  console.log(`after: ${done.join(' ')}`);

  const wrong = await second.tasks.trigger(rollout, {
    clientIds: ['pump-1', 'nobody-1', 'nobody-2', 'pump-2'],
    maxRpm: 950,
  });
  await wrong.result().catch((error: HubError) => console.log(error.message.replace(/^run \S+ /, '')));
} finally {
  rmSync(data, { recursive: true, force: true });
}
