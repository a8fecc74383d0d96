import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { openSqlite } from '../../src/sqlite/index.ts';
import { defineTask, Tasks } from '../../src/tasks/index.ts';
import type { Announcement } from '../../src/tasks/run-store.ts';
import { newRun, runStoreContract } from '../contracts/run-store.ts';
import { eventsOf, gate } from '../tasks/rig.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

runStoreContract('SQLite', async () => {
  const { runs: store, close } = await openSqlite({ directory: ':memory:' });
  return { store, close };
});

describe('an end and what tells of it', () => {
  const options = { nowMs: 1000, maxQueued: 100, claim: { worker: 'w1', untilMs: 9000 } };
  const told = (id: string, name = `task.${id}`): Announcement => ({
    channel: `default/${name}`,
    type: 'done',
    atMs: 2000,
    dataJson: '{"success":true}',
  });
  const ok = { kind: 'succeeded', result: '1' } as const;

  test('come together, or not at all', async () => {
    const { runs, log } = await openStore(':memory:');
    const { id } = newRun();
    await runs.add(newRun({ id }), options);
    const [stale, claim] = [
      { id, epoch: 0 },
      { id, epoch: 1 },
    ];
    const user = told(id, 'user.ann');
    expect(await runs.teller!.settle(stale, ok, 2000, [told(id), user])).toBe(false);
    expect(await runs.get('default', id)).toMatchObject({ state: 'running', isTold: undefined });
    expect(await eventsOf(log, id)).toEqual([]);
    expect(await runs.teller!.settle(claim, ok, 2000, [told(id), user])).toBe(true);
    expect(await runs.get('default', id)).toMatchObject({ state: 'succeeded', result: '1', isTold: true });
    expect(await runs.unannounced(10)).toEqual([]);
    expect(await eventsOf(log, id)).toEqual([['done', { success: true }]]);
    // The hole that the refused one left behind is told.
    const page = await log.read('default/user.ann', { epoch: log.epoch, seq: 0 }, 10);
    expect(page).toMatchObject({ gap: { kind: 'gap', from: 1, to: 1 }, events: [{ type: 'done', seq: 2 }] });
    expect(await runs.teller!.settle(claim, ok, 2100, [told(id)])).toBe(false);
    expect(await eventsOf(log, id)).toHaveLength(1);
  });

  test('let the next run of the same key come', async () => {
    const { runs } = await openStore(':memory:');
    const concurrency = { key: 'k', limit: 1, onFull: 'queue' } as const;
    const first = newRun({ concurrency });
    const second = newRun({ concurrency });
    for (const run of [first, second]) await runs.add(run, options);
    const request = { worker: 'w', tasks: ['resize'], limit: 10, nowMs: 1500, untilMs: 9000, maxCrashes: 3 };
    expect((await runs.claim(request)).runs).toEqual([]);
    const failed = { kind: 'failed', error: { code: 'error', message: 'boom' } } as const;
    await runs.teller!.settle({ id: first.id, epoch: 1 }, failed, 2000, []);
    expect(await runs.get('default', first.id)).toMatchObject({ state: 'failed', failures: 1, error: failed.error });
    expect((await runs.claim(request)).runs).toMatchObject([{ id: second.id }]);
  });

  test('are seen once after a restart, by those who ask for the end again', async () => {
    const directory = emptyDirectory();
    const task = defineTask({ id: 'resize', input: z.object({ width: z.number() }), run: ({ width }) => width });
    const open = async () => {
      const store = await openSqlite({ directory });
      const tasks = new Tasks({ tasks: [task], log: store.log, store: store.runs });
      await tasks.start();
      const close = async () => {
        await tasks.close();
        await store.close();
      };
      return { tasks, close };
    };
    const first = await open();
    const { id } = await first.tasks.trigger(task, { width: 7 }, { owner: 'ann' });
    expect(await (await first.tasks.get(id)).result()).toBe(7);
    await first.close();
    const second = await open();
    onTestFinished(() => second.close());
    const types: string[] = [];
    for (let look = 0; look < 2; look++)
      for await (const { event } of (await second.tasks.get(id)).events()) types.push(event.type);
    expect(types.filter((type) => type === 'done')).toHaveLength(2);
  });

  test('stay apart where events go to another log', async () => {
    const { runs } = await openStore(':memory:');
    const { log } = await openStore(':memory:');
    const go = gate();
    const task = defineTask({ id: 'resize', input: z.object({}), run: () => go.promise });
    const tasks = new Tasks({ tasks: [task], log, store: runs });
    await tasks.start();
    onTestFinished(() => tasks.close());
    const handle = await tasks.trigger(task, {});
    go.resolve();
    await handle.result();
    expect((await eventsOf(log, handle.id)).map(([type]) => type)).toEqual(['task.started', 'done']);
  });
});
