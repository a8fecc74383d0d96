// A task in three steps with a checkpoint after each: its worker is closed in the middle, and the next one goes on.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { serve } from 'signalbox/server';
import { threeSteps } from './definitions.ts';

const data = mkdtempSync(path.join(tmpdir(), 'signalbox-steps-'));
const open = () =>
  serve({ grpc: false, http: '127.0.0.1:0', data, logLevel: 'error', drainTimeoutMs: 0 }, { tasks: [threeSteps] });

try {
  const first = await open();
  const handle = await first.tasks.trigger(threeSteps, { name: 'deploy', stepMs: 100 }, { idempotencyKey: 'once' });
  for await (const { event } of handle.events()) {
    console.log(`first:  ${event.type} ${JSON.parse(event.dataJson()).step ?? ''}`.trimEnd());
    if (event.type === 'progress') break;
  }
  await first.close();

  await using second = await open();
  const again = await second.tasks.get(handle.id);
  for await (const { event } of again.events()) {
    const { step, message, reason, state } = JSON.parse(event.dataJson());
    console.log(`second: ${event.type} ${step ?? message ?? reason ?? state ?? ''}`.trimEnd());
  }
  console.log(JSON.stringify(await again.result()));
} finally {
  rmSync(data, { recursive: true, force: true });
}
