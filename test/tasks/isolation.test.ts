import { threadId } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { HubError } from '../../src/errors.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { StartResponse, TailLogResponse } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { defineTask, setStreamSink, Tasks, type TasksOptions } from '../../src/tasks/index.ts';
import { logSink } from '../../src/tasks/log-sink.ts';
import { fakeTransport } from '../../src/testing/index.ts';
import { inProcess, inThread } from './programs/heavy.ts';
import { eventsOf } from './rig.ts';

interface Where {
  pid: number;
  threadId: number;
  attempt: number;
}

async function open(options: Pick<TasksOptions, 'threads' | 'transport'> = {}) {
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

  test('commands devices over the road of its worker', async () => {
    const pump = (name: string) => `signalbox.example.v1.PumpService/${name}`;
    const transport = fakeTransport((sent) => {
      switch (sent.command.payload.type) {
        case pump('Start'):
          return sent.tell('queued', 'sent').succeed({
            type: 'signalbox.example.v1.StartResponse',
            value: StartResponse.encode({ rpm: 900 }).finish(),
          });
        case pump('Stop'):
          return sent.fail(new HubError('mailbox-full', 'enough waits', { retryAfterMs: 1500 }));
        case pump('ConfigUpdate'):
          return void sent.whenCancelled.then(() => sent.end('cancelled'));
        default:
          for (let itemNumber = 1; itemNumber <= 3; itemNumber++) {
            const value = TailLogResponse.encode({ number: itemNumber, text: `line ${itemNumber}` }).finish();
            const type = 'signalbox.example.v1.TailLogResponse';
            sent.progress({ item: { type, value }, itemNumber });
          }
          return;
      }
    });
    const { tasks } = await open({ transport });
    expect(await (await tasks.trigger(task, { what: 'command' })).result()).toEqual({
      rpm: 900,
      refused: { code: 'mailbox-full', message: expect.stringContaining('enough waits'), retryAfterMs: 1500 },
      cancelled: 'command-cancelled',
      lines: ['line 1', 'line 2'],
    });
    expect(transport.sent.map(({ command }) => [command.clientId, command.tenant])).toEqual(
      Array(4).fill(['pump-1', 'default']),
    );
    expect(transport.sent[3]!.hasLeft).toBe(true);
  });
});
