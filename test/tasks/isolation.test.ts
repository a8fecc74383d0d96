import { threadId } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { defineTask, setStreamSink, Tasks } from '../../src/tasks/index.ts';
import { logSink } from '../../src/tasks/log-sink.ts';
import { inProcess, inThread } from './programs/heavy.ts';
import { eventsOf } from './rig.ts';

interface Where {
  pid: number;
  threadId: number;
  attempt: number;
}

async function open(options: { threads?: number } = {}) {
  const log = memoryEventLog();
  const beside = defineTask({ id: 'beside', input: z.object({}), run: () => 'done' });
  const tasks = new Tasks({ tasks: [inThread, inProcess, beside], log, threads: 2, processes: 1, ...options });
  await tasks.start();
  onTestFinished(() => tasks.close());
  return { tasks, log, beside };
}

describe.each([inThread, inProcess])('isolation: $isolation', (task) => {
  test('runs elsewhere, and tells, keeps and returns as if it were here', async () => {
    const { tasks, log } = await open();
    const handle = await tasks.trigger(task, { what: 'tell' });
    const where = (await handle.result()) as Where;
    expect(where.attempt).toBe(1);
    expect(where.pid === process.pid).toBe(task === inThread);
    expect(where.threadId !== threadId || where.pid !== process.pid).toBe(true);
    expect((await eventsOf(log, handle.id)).map(([type]) => type)).toEqual([
      'task.started',
      'progress',
      'data',
      'done',
    ]);
  });

  test('is used again for the next run', async () => {
    const { tasks } = await open({ threads: 1 });
    const run = async () => (await (await tasks.trigger(task, { what: 'tell' })).result()) as Where;
    const [a, b] = [await run(), await run()];
    expect([a.pid, a.threadId]).toEqual([b.pid, b.threadId]);
  });

  test('keeps the CPU of a run away from the others, and a cancel ends even what never looks up', async () => {
    const { tasks, beside } = await open();
    const spinning = await tasks.trigger(task, { what: 'spin' });
    for await (const { event } of spinning.events()) if (event.type === 'task.started') break;
    expect(await (await tasks.trigger(beside, {})).result()).toBe('done');
    await spinning.cancel('enough');
    await expect(spinning.result()).rejects.toMatchObject({ code: 'task-cancelled' });
    expect(await (await tasks.trigger(task, { what: 'tell' })).result()).toMatchObject({ attempt: 1 });
  });

  test('hears of a cancel', async () => {
    const { tasks } = await open();
    const handle = await tasks.trigger(task, { what: 'obey' });
    for await (const { event } of handle.events()) if (event.type === 'task.started') break;
    await handle.cancel('please');
    await expect(handle.result()).rejects.toThrow('please');
  });

  test('that crashes or throws fails its run alone', async () => {
    const { tasks } = await open();
    await expect((await tasks.trigger(task, { what: 'crash' })).result()).rejects.toThrow(
      'ended with code 7 (crashed)',
    );
    await expect((await tasks.trigger(task, { what: 'throw' })).result()).rejects.toThrow('thrown over there (error)');
    expect(await (await tasks.trigger(task, { what: 'tell' })).result()).toMatchObject({ attempt: 1 });
  });

  test('has streams of its own that lead here', async () => {
    const { tasks, log } = await open();
    const before = setStreamSink(logSink(log));
    onTestFinished(() => void setStreamSink(before));
    await (await tasks.trigger(task, { what: 'stream' })).result();
    const page = await log.read('default/stream:own', { epoch: 0, seq: 0 }, 10);
    expect(page.events.map(({ type }) => type)).toEqual(['log', 'done']);
  });
});
