// A fleet rollout as a task: batches with a pause between them, an abort threshold, and a checkpoint after each batch. The hub
// that runs it is a process of its own, which is killed in the middle (kill -9) and started again: the rollout goes on.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { HubError } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { defineTask } from 'signalbox/tasks';
import { z } from 'zod';
import { connectPump } from '../support.ts';

const pumps = Array.from({ length: 6 }, (_, i) => `pump-${i + 1}`);
const state = z.object({ done: z.array(z.string()), failed: z.array(z.string()) });

export const rollout = defineTask({
  id: 'rollout',
  input: z.object({
    clientIds: z.array(z.string()).min(1),
    maxRpm: z.int(),
    batchSize: z.int().min(1).default(2),
    pauseMs: z.int().min(0).default(0),
    abortAfterFailures: z.int().min(1).default(2),
    /** How long a device that is not connected is waited for. */
    waitMs: z.int().min(0).default(20_000),
  }),
  output: state,
  events: { batch: z.object({ ok: z.array(z.string()), failed: z.array(z.string()) }) },
  // One rollout at a time.
  concurrency: { onFull: 'reject' },
  async run({ clientIds, maxRpm, batchSize, pauseMs, abortAfterFailures, waitMs }, ctx) {
    const { done, failed } = state.parse(ctx.lastCheckpoint ?? { done: [], failed: [] });
    const left = clientIds.filter((id) => !done.includes(id) && !failed.includes(id));
    while (left.length > 0) {
      ctx.signal.throwIfAborted();
      const batch = left.splice(0, batchSize);
      const outcomes = await Promise.all(
        batch.map(async (clientId) => {
          await using pump = ctx.commands(PumpServiceDefinition, { clientId });
          // A batch that was under way at a crash is sent again: the same key, and a setting, so that twice is once.
          const options = { idempotencyKey: `${ctx.runId}-${clientId}`, idempotent: true, waitForConnectMs: waitMs };
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

/** The hub. It asks for the rollout, which is one run however often it is asked for, and tells how that goes. */
async function hub(address: string, data: string): Promise<void> {
  const options = { grpc: address, http: false, data, logLevel: 'error', preset: 'test' } as const;
  await using server = await serve(options, { tasks: [rollout] });
  console.log(`listens at ${server.grpc[0]}`);
  const input = { clientIds: pumps, maxRpm: 900, pauseMs: 1000 };
  const handle = await server.tasks.trigger(rollout, input, { idempotencyKey: 'rpm-900' });
  await server.tasks.trigger(rollout, input).catch((error: HubError) => console.log(`another one: ${error.code}`));
  for await (const { event } of handle.events()) {
    const told = JSON.parse(event.dataJson());
    if (event.type === 'batch') console.log(`batch ${told.data.ok.join(' ')}`);
    if (event.type === 'hub.attempt') console.log(`attempt ${told.attempt}: ${told.reason}`);
  }
  const { done } = await handle.result();
  console.log(`done ${done.join(' ')}`);

  // Those of the last batch are connected; the others do not exist.
  const clientIds = ['pump-5', 'nobody-1', 'nobody-2', 'pump-6'];
  const wrong = await server.tasks.trigger(rollout, { clientIds, maxRpm: 950, waitMs: 100 });
  await wrong.result().catch((error: HubError) => console.log(error.message.replace(/^run \S+ /, '')));
}

/** Runs the hub in a process of its own and tells what it says. `hear` returns true to have it killed. */
async function runHub(name: string, address: string, data: string, hear: (line: string) => Promise<boolean> | boolean) {
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  const child = spawn(process.execPath, [import.meta.filename, 'hub', address, data], { stdio: [...stdio] });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout! })) {
    console.log(`${name}: ${line.replace(/:\d+$/, ':<port>')}`);
    if (await hear(line)) child.kill('SIGKILL');
  }
  await ended;
}

if (process.argv[2] === 'hub') await hub(process.argv[3]!, process.argv[4]!);
else {
  const data = mkdtempSync(path.join(tmpdir(), 'signalbox-rollout-'));
  try {
    await using devices = new AsyncDisposableStack();
    let address = '127.0.0.1:0';
    let isKilled = false;
    await runHub('first', address, data, async (line) => {
      if (line.startsWith('listens at ')) {
        address = line.slice('listens at '.length);
        for (const clientId of pumps) devices.use(await connectPump({ address, clientId }));
      }
      if (isKilled || !line.startsWith('batch ')) return false;
      isKilled = true;
      return true;
    });
    // The devices come back to the next one by themselves, and the rollout goes on after its last batch.
    await runHub('second', address, data, () => false);
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
}
