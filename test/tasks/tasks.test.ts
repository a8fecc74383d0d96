import { describe, expect, expectTypeOf, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { HubError } from '../../src/errors.ts';
import { channelKey } from '../../src/events/channels.ts';
import type { EventLog, EventPage, NewEvent, Position } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { defineTask, memoryRunStore, type TaskContext, type TaskHandle, Tasks } from '../../src/tasks/index.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { dataOf, eventsOf, gate, taskRig } from './rig.ts';

const input = z.object({ width: z.number() });
type Context = TaskContext;

/** Waits for whatever the promises of a run have to do. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('a task', () => {
  test('takes its types from its schemas', async () => {
    const typed = defineTask({
      id: 'typed',
      input: z.object({ at: z.string().transform((text) => new Date(text)) }),
      output: z.object({ year: z.number() }),
      events: { half: z.object({ done: z.number() }) },
      async run({ at }, ctx) {
        expectTypeOf(at).toEqualTypeOf<Date>();
        await ctx.emit('half', { done: 1 });
        // @ts-expect-error: the event has another type
        await expect(ctx.emit('half', { done: 'x' })).rejects.toThrow('half.done');
        // @ts-expect-error: there is no such event
        expect(() => ctx.emit('other', {})).toThrow('has no event "other"');
        return { year: at.getUTCFullYear() };
      },
    });
    const plain = defineTask({ id: 'plain', input, run: ({ width }) => ({ width, isBig: width > 100 }) });
    const { tasks } = await taskRig([typed, plain]);
    const handle = await tasks.trigger(plain, { width: 200 });
    expectTypeOf(handle).toEqualTypeOf<TaskHandle<{ width: number; isBig: boolean }>>();
    expect(await handle.result()).toEqual({ width: 200, isBig: true });
    // @ts-expect-error: the input has another type
    await expect(tasks.trigger(plain, { width: 'big' })).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('input.width'),
    });
    const run = await tasks.trigger(typed, { at: '2026-05-01T00:00:00Z' });
    // One refused event is enough to fail it.
    await expect(run.result()).rejects.toThrow('half.done');
  });

  test.each([
    [{ id: 'a b' }, 'task id "a b"'],
    [{ retry: { attempts: 0 } }, 'retry.attempts is 0'],
    [{ retry: { minMs: 5, maxMs: 1 } }, 'retry waits from 5 to 1 ms'],
    [{ timeout: { attemptMs: 0 } }, 'timeout.attemptMs is 0'],
    [{ concurrency: { limit: 0 } }, 'concurrency.limit is 0'],
    [{ isolation: 'thread' as const }, 'needs module: import.meta.url'],
    [{ input: {} as typeof input }, 'input is not a schema'],
    [{ output: {} as typeof input }, 'output is not a schema'],
    [{ run: undefined as never }, 'task x: run is undefined, it has to be a function'],
    [{ retries: 3 }, 'has no option "retries", there are: id, input'],
    [{ retry: 3 as never }, 'task x: retry is 3, it has to be an object with: attempts'],
    [{ retry: { when: 'never' as never } }, 'retry.when is "never"'],
    [{ timeout: 5000 as never }, 'task x: timeout is 5000, it has to be an object with: attemptMs'],
    [{ timeout: { attempMs: 5 } as never }, 'timeout has no option "attempMs"'],
    [{ timeout: { totalMs: 30 * 24 * 3600_000 } }, 'at most 2147483647 (24 days)'],
    [{ concurrency: { key: 5 as never } }, 'concurrency.key is 5'],
    [{ concurrency: { onFull: 'wait' as never } }, 'onFull is "wait", there are: queue, reject'],
    [{ isolation: 'worker' as never, module: import.meta.url }, 'isolation is "worker", there are: inline'],
    [{ isolation: 'thread' as const, module: '/tasks.js' }, 'module "/tasks.js" is no file: URL'],
    [{ events: { tick: 5 as never } }, 'events.tick is not a schema'],
    [{ events: { done: input } }, 'event type "done" is not to be emitted'],
    [{ events: { 'task.tick': input } }, '"task.tick" is reserved'],
  ])('refuses options that make no sense: %j', (options, message) => {
    expect(() => defineTask({ id: 'x', input, run: () => 1, ...(options as object) })).toThrow(message);
  });

  test('tells what it does in its channel, in order, and ends it with done', async () => {
    const task = defineTask({
      id: 'resize',
      input,
      async run({ width }, ctx) {
        ctx.log('begins');
        ctx.progress(50, 'half', 'half of it is done');
        ctx.progress(120);
        ctx.data({ width });
        ctx.error('a pixel is broken', { x: 1 });
        ctx.emit('resized', [1, 2]);
        return 'fine';
      },
    });
    const { tasks, events, log, facts } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 3 }, { owner: 'ann' });
    expect(await handle.result()).toBe('fine');
    expect(await events(handle.id)).toEqual([
      ['task.started', {}],
      ['log', { level: 'info', message: 'begins' }],
      ['progress', { percent: 50, step: 'half', message: 'half of it is done' }],
      ['progress', { percent: 100 }],
      ['data', { data: { width: 3 } }],
      ['error', { message: 'a pixel is broken', details: { x: 1 } }],
      ['resized', { data: [1, 2] }],
      ['done', { success: true, state: 'succeeded', result: 'fine' }],
    ]);
    const seen = [];
    for await (const { event } of handle.events()) seen.push(JSON.parse(event.dataJson()).context);
    expect(seen).toHaveLength(8);
    expect(seen[4]).toEqual({ runId: handle.id, task: 'resize', attempt: 1 });
    const own = await log.read(channelKey('default', 'user.ann'), { epoch: 0, seq: 0 }, 10);
    expect(own.events.map((event) => [event.type, dataOf(event)])).toEqual([
      ['task.succeeded', { success: true, state: 'succeeded', result: 'fine' }],
    ]);
    expect(facts.map(({ kind }) => kind)).toEqual(['run-triggered', 'run-started', 'run-ended']);
  });

  test('may not tell what only the hub tells', async () => {
    const task = defineTask({
      id: 'liar',
      input,
      run: (_, ctx: Context) => {
        for (const type of ['done', 'ping', 'hub.attempt', 'task.started'])
          expect(() => ctx.emit(type, {})).toThrow(type);
      },
    });
    const { tasks } = await taskRig([task]);
    await (await tasks.trigger(task, { width: 1 })).result();
  });

  test('keeps the order in which it tells, also of events that have schemas', async () => {
    const task = defineTask({
      id: 'in-order',
      input,
      events: { half: z.object({ n: z.number() }), slow: z.string().refine(async () => true) },
      async run(_, ctx) {
        ctx.emit('half', { n: 1 });
        ctx.log('two');
        ctx.emit('half', { n: 3 });
        ctx.log('four');
        await ctx.emit('slow', 'x');
      },
    });
    const { tasks, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await expect(handle.result()).rejects.toThrow('the schema of event "slow" is asynchronous');
    expect((await events(handle.id)).slice(1, -1)).toEqual([
      ['half', { data: { n: 1 } }],
      ['log', { level: 'info', message: 'two' }],
      ['half', { data: { n: 3 } }],
      ['log', { level: 'info', message: 'four' }],
    ]);
  });

  test('is not over before what it pipes is, and is failed by a source that fails, though it does not wait for either', async () => {
    const go = gate();
    async function* source(fails: boolean) {
      yield 'a';
      await go.promise;
      if (fails) throw new Error('the model is away');
      yield 'b';
    }
    const piped = defineTask({
      id: 'piped',
      input: z.object({ fails: z.boolean() }),
      run({ fails }, ctx) {
        ctx.pipe(source(fails), { rollUpMs: 0 });
      },
    });
    const careful = defineTask({
      id: 'careful',
      input,
      async run(_, ctx) {
        const said = ctx.pipe(source(true), { rollUpMs: 0 }).catch((error: Error) => error.message);
        return said;
      },
    });
    const { tasks, events } = await taskRig([piped, careful]);
    const good = await tasks.trigger(piped, { fails: false });
    const bad = await tasks.trigger(piped, { fails: true });
    const handled = await tasks.trigger(careful, { width: 1 });
    await settle();
    expect(await tasks.isRunning(good.id)).toBe(true);
    go.resolve();
    await good.result();
    expect((await events(good.id)).slice(1)).toMatchObject([
      ['data', { data: 'a' }],
      ['data', { data: 'b' }],
      ['done', {}],
    ]);
    await expect(bad.result()).rejects.toThrow('the model is away (error)');
    expect(await handled.result()).toBe('the model is away');
  });

  test('has one end: its stream is not for the task to complete', async () => {
    const task = defineTask({ id: 'ender', input, run: (_, ctx) => ctx.stream.complete(true) });
    const { tasks, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await expect(handle.result()).rejects.toThrow('ends when its task returns (permission-denied)');
    expect((await events(handle.id)).filter(([type]) => type === 'done')).toHaveLength(1);
  });

  test('goes on when its watchers leave, and has as many as come', async () => {
    const go = gate();
    const task = defineTask({
      id: 'slow',
      input,
      async run(_, ctx) {
        ctx.progress(10);
        await go.promise;
        ctx.progress(90);
      },
    });
    const { tasks } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    for await (const { event } of handle.events()) if (event.type === 'progress') break;
    const aborted = new AbortController();
    const left = handle.result({ signal: aborted.signal });
    aborted.abort(new Error('I leave'));
    await expect(left).rejects.toThrow('I leave');
    const watchers = Array.from({ length: 50 }, async () => {
      const types = [];
      for await (const { event } of (await tasks.get(handle.id)).events()) types.push(event.type);
      return types;
    });
    expect(await tasks.isRunning(handle.id)).toBe(true);
    go.resolve();
    for (const types of await Promise.all(watchers))
      expect(types).toEqual(['task.started', 'progress', 'progress', 'done']);
    expect(await tasks.isRunning(handle.id)).toBe(false);
  });

  test('whose end its channel has lost ends for its watchers all the same, once they hear of the gap', async () => {
    const [clock, go] = [virtualClock(), gate()];
    const kept = memoryEventLog({ clock });
    // Takes the end and loses it, as a log whose machine falls over; whoever reads on is told that something is gone.
    let isGone = false;
    const log: EventLog = Object.assign(Object.create(kept) as EventLog, {
      append: (channel: string, event: NewEvent) => (event.type === 'done' ? undefined : kept.append(channel, event)),
      read(channel: string, after: Position, limit: number): EventPage | Promise<EventPage> {
        if (!isGone || after.seq === 0) return kept.read(channel, after, limit);
        isGone = false;
        return { events: [], gap: { kind: 'reset', reason: 'restarted' }, next: after, atEnd: true };
      },
    });
    const task = defineTask({ id: 'bereft', input, run: () => go.promise.then(() => 'result') });
    const { tasks } = await taskRig([task], { clock, log });
    const handle = await tasks.trigger(task, { width: 1 });
    const types: string[] = [];
    const watching = (async () => {
      for await (const { event } of handle.events()) types.push(event.type);
    })();
    const result = handle.result();
    await settle();
    go.resolve();
    await settle();
    expect((await handle.snapshot()).state).toBe('succeeded');
    for (let readers = 0; readers < 2; readers++) {
      isGone = true;
      kept.append(channelKey('default', `task.${handle.id}`), { type: 'wake', atMs: 0, data: 1, durable: false });
      await settle();
    }
    await watching;
    expect(types).toEqual(['task.started', 'hub.reset', expect.any(String)]);
    expect(await result).toBe('result');
  });

  test('that is not there, and a run that is not there, are named', async () => {
    const { tasks } = await taskRig([defineTask({ id: 'known', input, run: () => 1 })]);
    await expect(tasks.trigger('unknown', {})).rejects.toThrow('there is no task "unknown" here, only: known');
    await expect(tasks.get('nobody')).rejects.toMatchObject({ code: 'not-found' });
    await expect(tasks.cancel('nobody')).rejects.toMatchObject({ code: 'not-found' });
    await expect(tasks.get(undefined as never)).rejects.toThrow('there is no run undefined');
    await expect(tasks.trigger(undefined as never, {} as never)).rejects.toThrow(
      'undefined is no task and no id of one',
    );
    // @ts-expect-error: there is no such option
    await expect(tasks.trigger('known', { width: 1 }, { delay: 5 })).rejects.toThrow(
      'has no option "delay", there are:',
    );
    const log = memoryEventLog();
    expect(() => new Tasks({ tasks: [{ id: 'x' } as never], log })).toThrow('is not made by defineTask');
    expect(() => new Tasks({ tasks: [], log: undefined as never })).toThrow('log is undefined');
  });

  test('whose schema or key falls over an input is named, and triggered is nothing', async () => {
    const odd = (validate: () => never) => ({ '~standard': { version: 1, vendor: 'own', validate } }) as const;
    const fallen = odd(() => {
      throw new Error('out of luck');
    });
    const all = [
      defineTask({ id: 'fallen', input: fallen, run: () => 1 }),
      defineTask({ id: 'mute', input: odd(() => undefined as never), run: () => 1 }),
      defineTask({
        id: 'keyed',
        input,
        concurrency: { key: () => (undefined as never as string).length as never },
        run: () => 1,
      }),
    ];
    const { tasks } = await taskRig(all);
    const messages = [
      'the schema of input fell over a value: out of luck',
      'does not follow Standard Schema',
      'its concurrency key fell',
    ];
    for (const [i, task] of all.entries())
      await expect(tasks.trigger(task.id, { width: 1 })).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringContaining(messages[i]!),
      });
    expect(await tasks.list()).toEqual([]);
  });

  test('with a result that is no JSON, or too large, fails and says so', async () => {
    const odd = defineTask({ id: 'odd', input, run: () => 1n });
    const large = defineTask({ id: 'large', input, run: ({ width }) => 'x'.repeat(width) });
    const { tasks } = await taskRig([odd, large], { maxResultBytes: 1000 });
    await expect((await tasks.trigger(odd, { width: 1 })).result()).rejects.toThrow('is no JSON');
    await expect((await tasks.trigger(large, { width: 999 })).result()).rejects.toThrow(
      '1001 bytes, the limit is 1000',
    );
    expect(await (await tasks.trigger(large, { width: 998 })).result()).toHaveLength(998);
  });
});

describe('a failed attempt', () => {
  test('is tried again after a wait that doubles, and watchers are told to drop what it said', async () => {
    let tries = 0;
    const task = defineTask({
      id: 'flaky',
      input,
      retry: { attempts: 3, minMs: 1000, maxMs: 10_000 },
      run(_, ctx) {
        ctx.data(`try ${ctx.attempt}`);
        if (++tries < 3) throw new Error(`boom ${tries}`);
        return tries;
      },
    });
    const { tasks, clock, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await clock.advance(999);
    expect(tries).toBe(1);
    expect(await handle.snapshot()).toMatchObject({
      state: 'queued',
      failures: 1,
      error: { code: 'error', message: 'boom 1' },
    });
    await clock.advance(1);
    expect(tries).toBe(2);
    await clock.advance(1999);
    expect(tries).toBe(2);
    await clock.advance(1);
    expect(await handle.result()).toBe(3);
    expect(
      (await events(handle.id)).map(([type, { data, reason, attempt }]) => data ?? reason ?? attempt ?? type),
    ).toEqual(['task.started', 'try 1', 'error', 'failed', 'try 2', 'error', 'failed', 'try 3', 'done']);
  });

  test('is not tried again where that makes no sense', async () => {
    let tries = 0;
    const run = () => {
      tries++;
      throw new HubError('invalid-argument', 'never works');
    };
    const task = defineTask({ id: 'hopeless', input, retry: { attempts: 5 }, run });
    const picky = defineTask({
      id: 'picky',
      input,
      retry: { attempts: 5, when: ({ message }) => message !== 'fatal' },
      run() {
        tries++;
        throw new Error('fatal');
      },
    });
    const { tasks } = await taskRig([task, picky]);
    await expect((await tasks.trigger(task, { width: 1 })).result()).rejects.toMatchObject({ code: 'task-failed' });
    await expect((await tasks.trigger(picky, { width: 1 })).result()).rejects.toThrow('fatal (error)');
    expect(tries).toBe(2);
  });

  test('goes on from its checkpoint', async () => {
    const done: number[] = [];
    const task = defineTask({
      id: 'steps',
      input,
      retry: { attempts: 2, minMs: 10, maxMs: 10 },
      async run(_, ctx) {
        const { next = 0 } = (ctx.lastCheckpoint ?? {}) as { next?: number };
        for (let step = next; step < 4; step++) {
          done.push(step);
          await ctx.checkpoint({ next: step + 1 });
          if (step === 1 && ctx.attempt === 1) throw new Error('in the middle');
        }
      },
    });
    const { tasks, clock } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await clock.advance(10);
    await handle.result();
    expect(done).toEqual([0, 1, 2, 3]);
  });

  test('that takes too long is told to stop, and left after its grace', async () => {
    let heard: unknown;
    const never = gate();
    const task = defineTask({
      id: 'hanging',
      input,
      timeout: { attemptMs: 1000, graceMs: 500 },
      retry: { attempts: 2, minMs: 100, maxMs: 100 },
      async run(_, ctx) {
        ctx.signal.addEventListener('abort', () => {
          heard = ctx.signal.reason;
        });
        await never.promise;
        await ctx.log('from the grave');
      },
    });
    const { tasks, clock, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await clock.advance(1000);
    expect(heard).toMatchObject({ code: 'deadline-exceeded' });
    expect(await handle.snapshot()).toMatchObject({ state: 'running', epoch: 1 });
    await clock.advance(500);
    expect(await handle.snapshot()).toMatchObject({ state: 'queued', failures: 1, error: { code: 'timed-out' } });
    await clock.advance(100 + 1500);
    await expect(handle.result()).rejects.toMatchObject({ code: 'deadline-exceeded' });
    // What the two left ones still say is not taken.
    never.resolve();
    await settle();
    expect((await events(handle.id)).map(([type]) => type)).toEqual(['task.started', 'error', 'hub.attempt', 'done']);
  });

  test('has no other one after it once the time of the whole run is over', async () => {
    const task = defineTask({
      id: 'late',
      input,
      timeout: { totalMs: 2500, graceMs: 0 },
      retry: { attempts: 10, minMs: 1000, maxMs: 1000 },
      async run(_, ctx) {
        if (ctx.attempt < 3) throw new Error('again');
        await new Promise(() => undefined);
      },
    });
    const { tasks, clock } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await clock.advance(2600);
    expect(await handle.snapshot()).toMatchObject({ state: 'failed', epoch: 3, error: { code: 'timed-out' } });
    const waiting = await tasks.trigger(task, { width: 2 }, { delayMs: 500 });
    expect(await waiting.snapshot()).toMatchObject({ deadlineMs: clock.now() + 3000 });
  });
});

describe('triggering', () => {
  test('twice with one idempotency key is one run', async () => {
    let runs = 0;
    const task = defineTask({ id: 'once', input, run: () => ++runs });
    const { tasks } = await taskRig([task]);
    const [a, b] = await Promise.all([1, 1].map((width) => tasks.trigger(task, { width }, { idempotencyKey: 'k' })));
    expect(a!.id).toBe(b!.id);
    expect([await a!.result(), await b!.result()]).toEqual([1, 1]);
    await expect(tasks.trigger(task, { width: 2 }, { idempotencyKey: 'k' })).rejects.toMatchObject({
      code: 'idempotency-conflict',
    });
  });

  test('with a delay starts it then', async () => {
    let started = false;
    const task = defineTask({
      id: 'later',
      input,
      run: () => {
        started = true;
      },
    });
    const { tasks, clock } = await taskRig([task]);
    await tasks.trigger(task, { width: 1 }, { delayMs: 60_000 });
    await clock.advance(59_999);
    expect(started).toBe(false);
    await clock.advance(1);
    expect(started).toBe(true);
  });

  test('beyond what this process does at once lets them wait, the more urgent ones less', async () => {
    const order: number[] = [];
    const go = gate();
    const task = defineTask({
      id: 'one-by-one',
      input,
      async run({ width }) {
        order.push(width);
        await go.promise;
      },
    });
    const { tasks } = await taskRig([task], { concurrency: 1 });
    const handles = [];
    for (const [width, priority] of [
      [1, 0],
      [2, 0],
      [3, 50],
      [4, -5],
    ] as const)
      handles.push(await tasks.trigger(task, { width }, { priority }));
    await settle();
    expect(order).toEqual([1]);
    go.resolve();
    await Promise.all(handles.map((handle) => handle.result()));
    expect(order).toEqual([1, 3, 2, 4]);
  });

  test('keeps to the limit of a concurrency key that the input names', async () => {
    let atOnce = 0;
    let most = 0;
    const task = defineTask({
      id: 'per-user',
      input: z.object({ user: z.string() }),
      concurrency: { key: ({ user }) => user, limit: 2 },
      async run() {
        most = Math.max(most, ++atOnce);
        await settle();
        atOnce--;
      },
    });
    const { tasks } = await taskRig([task]);
    const handles = await Promise.all(Array.from({ length: 10 }, () => tasks.trigger(task, { user: 'ann' })));
    await Promise.all(handles.map((handle) => handle.result()));
    expect(most).toBe(2);
  });

  test.each([
    [{ delayMs: -1 }, 'delayMs is -1'],
    [{ priority: 1.5 }, 'priority is 1.5'],
    [{ owner: 'a/b' }, 'owner "a/b"'],
    [{ idempotencyKey: 'a b' }, 'idempotencyKey "a b"'],
    [{ tags: [''] }, 'tags'],
    [{ id: 'a b' }, 'a b'],
  ])('refuses options that make no sense: %j', async (options, message) => {
    const task = defineTask({ id: 'any', input, run: () => 1 });
    const { tasks } = await taskRig([task]);
    await expect(tasks.trigger(task, { width: 1 }, options)).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining(message),
    });
  });
});

describe('a cancel', () => {
  const patient = () => {
    const started = gate();
    const task = defineTask({
      id: 'patient',
      input,
      async run(_, ctx) {
        started.resolve();
        await new Promise((_resolve, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
      },
    });
    return { task, started };
  };

  test('ends a running run, and its end is the acknowledgement', async () => {
    const { task, started } = patient();
    const { tasks, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await started.promise;
    expect(await handle.cancel('not needed')).toMatchObject({ cancelReason: 'not needed' });
    await expect(handle.result()).rejects.toMatchObject({
      code: 'task-cancelled',
      message: expect.stringContaining('not needed'),
    });
    expect((await events(handle.id)).at(-1)).toEqual([
      'done',
      { success: false, state: 'cancelled', error: 'not needed', code: 'cancelled' },
    ]);
  });

  test('ends a waiting run at once', async () => {
    const { task } = patient();
    const { tasks } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 }, { delayMs: 1000 });
    expect(await handle.cancel()).toMatchObject({ state: 'cancelled' });
    const types = [];
    for await (const { event } of handle.events()) types.push(event.type);
    expect(types).toEqual(['done']);
  });

  test('reaches a run of another process', async () => {
    const { task, started } = patient();
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const log = memoryEventLog({ clock });
    const worker = await taskRig([task], { clock, store, log });
    const other = await taskRig([task], { clock, store, log, work: false });
    const handle = await other.tasks.trigger(task, { width: 1 });
    await clock.advance(5000);
    await started.promise;
    await handle.cancel('from afar');
    expect(await handle.snapshot()).toMatchObject({ state: 'running' });
    await clock.advance(8000 / 3 + 1);
    await expect(handle.result()).rejects.toMatchObject({ code: 'task-cancelled' });
    expect(worker.tasks.load).toBe(0);
  });
});

describe('a worker', () => {
  test('that stands still loses its run; nothing that it says afterwards counts, and the end is seen once', async () => {
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const log = memoryEventLog({ clock });
    const gates = [gate(), gate()];
    const late: unknown[] = [];
    const task = defineTask({
      id: 'fenced',
      input,
      async run(_, ctx) {
        await ctx.data(`first of ${ctx.attempt}`);
        await gates[ctx.attempt - 1]!.promise;
        await ctx.data(`second of ${ctx.attempt}`).catch((error: unknown) => late.push(error));
        await ctx.checkpoint(ctx.attempt).catch((error: unknown) => late.push(error));
        return ctx.attempt;
      },
    });
    // Its renewals are lost, as if it stood still; its clock goes on.
    const standing = gate<never>();
    const lame = { ...store, renew: () => standing.promise };
    const first = await taskRig([task], { clock, store: lame, log });
    const handle = await first.tasks.trigger(task, { width: 1 });
    await clock.advance(0);
    const second = await taskRig([task], { clock, store, log });
    onTestFinished(() => standing.reject(new Error('the end')));
    await clock.advance(13_000);
    expect(await handle.snapshot()).toMatchObject({ epoch: 2, crashes: 1 });
    gates[0]!.resolve();
    await clock.advance(100);
    gates[1]!.resolve();
    await clock.advance(100);
    expect(await second.tasks.get(handle.id).then((each) => each.result())).toBe(2);
    expect((await eventsOf(log, handle.id)).map(([type, { data }]) => data ?? type)).toEqual([
      'task.started',
      'first of 1',
      'hub.attempt',
      'first of 2',
      'second of 2',
      'done',
    ]);
  });

  test('that hears that it has lost a run takes nothing more from it, and tells the run', async () => {
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const log = memoryEventLog({ clock });
    const [go, heard] = [gate(), gate<string[]>()];
    const task = defineTask({
      id: 'lost',
      input,
      async run(_, ctx) {
        if (ctx.attempt > 1) {
          await heard.promise;
          return ctx.attempt;
        }
        await go.promise;
        const said: unknown[] = [ctx.signal.reason];
        for (const tell of [() => ctx.data('too late'), () => ctx.checkpoint(1), () => ctx.stream.log('too late')])
          try {
            await tell();
          } catch (error) {
            said.push(error);
          }
        heard.resolve(said.map((error) => (error as HubError).code));
        return 'of the first';
      },
    });
    // Its renewals do not arrive until another worker has the run.
    let isCutOff = true;
    const away = () => Promise.reject(new HubError('unavailable', 'no way through'));
    const first = await taskRig([task], {
      clock,
      log,
      store: { ...store, renew: (...args) => (isCutOff ? away() : store.renew(...args)) },
    });
    const handle = await first.tasks.trigger(task, { width: 1 });
    await clock.advance(0);
    const second = await taskRig([task], { clock, store, log });
    await clock.advance(13_000);
    expect(await handle.snapshot()).toMatchObject({ epoch: 2 });
    isCutOff = false;
    await clock.advance(5000);
    go.resolve();
    expect(await heard.promise).toEqual(Array(4).fill('task-cancelled'));
    await clock.advance(100);
    expect(await (await second.tasks.get(handle.id)).result()).toBe(2);
    expect((await eventsOf(log, handle.id)).map(([type]) => type)).toEqual(['task.started', 'hub.attempt', 'done']);
    expect(first.facts.map(({ kind }) => kind)).toContain('run-lost');
  });

  test('takes nothing from a run that has ended', async () => {
    let told: Promise<unknown> | undefined;
    const task = defineTask({
      id: 'chatty',
      input,
      run(_, ctx) {
        told = settle().then(() => ctx.log('one more word'));
        told.catch(() => undefined);
      },
    });
    const { tasks, events } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await handle.result();
    await expect(told).rejects.toMatchObject({ code: 'task-cancelled' });
    expect((await events(handle.id)).map(([type]) => type)).toEqual(['task.started', 'done']);
  });

  test('that is closed gives its runs back, and the next one goes on with them', async () => {
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const log = memoryEventLog({ clock });
    const task = defineTask({
      id: 'long',
      input,
      async run(_, ctx) {
        await ctx.checkpoint(ctx.attempt);
        if (ctx.attempt === 1)
          await new Promise((_resolve, reject) =>
            ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)),
          );
        return [ctx.attempt, ctx.lastCheckpoint];
      },
    });
    const first = await taskRig([task], { clock, store, log });
    const handle = await first.tasks.trigger(task, { width: 1 });
    await clock.advance(0);
    await first.tasks.close();
    expect(await handle.snapshot()).toMatchObject({ state: 'queued', crashes: 0, failures: 0 });
    await expect(first.tasks.trigger(task, { width: 1 })).rejects.toMatchObject({ code: 'unavailable' });
    await taskRig([task], { clock, store, log });
    await clock.advance(0);
    expect(await handle.result()).toEqual([2, 1]);
  });

  test('that closes while a run is being taken in gives that back, too', async () => {
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const answer = gate();
    const slow = {
      ...store,
      add: async (...args: Parameters<typeof store.add>) => {
        const outcome = await store.add(...args);
        await answer.promise;
        return outcome;
      },
    };
    const task = defineTask({
      id: 'late',
      input,
      run: (_, ctx: Context) =>
        new Promise((_resolve, reject) => {
          if (ctx.signal.aborted) reject(ctx.signal.reason);
        }),
    });
    const { tasks } = await taskRig([task], { clock, store: slow });
    const triggered = tasks.trigger(task, { width: 1 });
    await settle();
    expect(await store.list({ tenant: 'default', limit: 10 })).toMatchObject([{ state: 'running', epoch: 1 }]);
    const closed = tasks.close();
    await settle();
    answer.resolve();
    await closed;
    expect(await (await triggered).snapshot()).toMatchObject({ state: 'queued', crashes: 0, failures: 0 });
  });

  test('begins a run where it was triggered, without being told by its engine', async () => {
    const engine = {
      mayBeginAtOnce: true,
      hint: () => undefined,
      start: () => undefined,
      stop: async () => undefined,
      close: async () => undefined,
    };
    const go = gate();
    const task = defineTask({ id: 'here', input, run: () => go.promise.then(() => 'ended') });
    const { tasks } = await taskRig([task], { engine, concurrency: 1 });
    const handle = await tasks.trigger(task, { width: 1 });
    expect(await handle.snapshot()).toMatchObject({ state: 'running', epoch: 1 });
    // There is no room for another one.
    const waiting = await tasks.trigger(task, { width: 2 });
    expect(await waiting.snapshot()).toMatchObject({ state: 'queued' });
    go.resolve();
    expect(await handle.result()).toBe('ended');
  });

  test('that drains lets its runs end', async () => {
    const go = gate();
    const task = defineTask({ id: 'short', input, run: () => go.promise.then(() => 'ended') });
    const { tasks, clock } = await taskRig([task]);
    const handle = await tasks.trigger(task, { width: 1 });
    await settle();
    const drained = tasks.drain({ timeoutMs: 10_000 });
    await clock.advance(5000);
    go.resolve();
    await drained;
    expect(await handle.snapshot()).toMatchObject({ state: 'succeeded', result: '"ended"' });
  });

  test('whose store fails for a while settles its runs when that is back', async () => {
    const store = memoryRunStore();
    let failures = 3;
    const lame = {
      ...store,
      settle: (...args: Parameters<typeof store.settle>) =>
        failures-- > 0 ? Promise.reject(new HubError('unavailable', 'no disk')) : store.settle(...args),
    };
    const task = defineTask({ id: 'sturdy', input, run: () => 'kept' });
    const { tasks, clock, facts } = await taskRig([task], { store: lame });
    const handle = await tasks.trigger(task, { width: 1 });
    for (let i = 0; i < 10; i++) await clock.advance(500);
    expect(await handle.result()).toBe('kept');
    expect(facts.filter(({ kind }) => kind === 'tasks-failed')).toHaveLength(3);
  });

  test.each(['log', 'store'])(
    'whose %s is away for a while does the run again, at no cost of its attempts',
    async (what) => {
      const clock = virtualClock();
      const log = memoryEventLog({ clock });
      const store = memoryRunStore();
      let failures = 2;
      const isAway = (): boolean => failures-- > 0;
      const away = new HubError('unavailable', 'Redis is away');
      const lameLog = {
        ...log,
        append: (...[channel, event]: Parameters<typeof log.append>) =>
          event.type === 'data' && isAway() ? Promise.reject(away) : log.append(channel, event),
      };
      const lameStore = {
        ...store,
        checkpoint: (...args: Parameters<typeof store.checkpoint>) =>
          isAway() ? Promise.reject(away) : store.checkpoint(...args),
      };
      const task = defineTask({
        id: 'patient',
        input,
        async run(_, ctx) {
          // It need not look at what becomes of it.
          if (what === 'log') ctx.data(1);
          else await ctx.checkpoint(1);
          return ctx.attempt;
        },
      });
      const given = what === 'log' ? { log: lameLog, store } : { log, store: lameStore };
      const { tasks } = await taskRig([task], { clock, ...given });
      const handle = await tasks.trigger(task, { width: 1 });
      for (let i = 0; i < 10; i++) await clock.advance(500);
      expect(await handle.result()).toBe(3);
      expect(await handle.snapshot()).toMatchObject({ failures: 0, crashes: 0 });
    },
  );

  test('whose store could not take an end together with its events hands them over one by one', async () => {
    const [store, clock] = [memoryRunStore(), virtualClock()];
    const log = memoryEventLog({ clock });
    let asked = 0;
    const lame = {
      ...store,
      teller: {
        log,
        settle: () => {
          asked++;
          return Promise.reject(new HubError('unavailable', 'no disk'));
        },
      },
    };
    const task = defineTask({ id: 'sturdy', input, run: () => 'kept' });
    const { tasks, events, facts } = await taskRig([task], { store: lame, clock, log });
    const handle = await tasks.trigger(task, { width: 1 });
    for (let i = 0; i < 10; i++) await clock.advance(500);
    expect(await handle.result()).toBe('kept');
    expect((await events(handle.id)).map(([type]) => type)).toEqual(['task.started', 'done']);
    expect(facts.filter(({ kind }) => kind === 'tasks-failed' || kind === 'run-ended')).toHaveLength(2);
    expect(asked).toBe(1);
  });

  test('that begins a run over an answer from long ago does not go back behind its newer claim', async () => {
    const [store, clock] = [memoryRunStore(), virtualClock()];
    const answer = gate();
    const slow = {
      ...store,
      add: async (...args: Parameters<typeof store.add>) => {
        const outcome = await store.add(...args);
        await answer.promise;
        return outcome;
      },
    };
    const attempts: number[] = [];
    const go = gate();
    const task = defineTask({
      id: 'stalled',
      input,
      run(_, ctx) {
        attempts.push(ctx.attempt);
        return go.promise.then(() => ctx.attempt);
      },
    });
    const { tasks } = await taskRig([task], { store: slow, clock });
    const triggered = tasks.trigger(task, { width: 1 });
    for (let i = 0; i < 20; i++) await clock.advance(1000);
    answer.resolve();
    const handle = await triggered;
    go.resolve();
    expect(await handle.result()).toBe(2);
    expect(attempts).toEqual([2]);
  });

  test('tells an end that the log did not take once it does', async () => {
    const clock = virtualClock();
    const log = memoryEventLog({ clock });
    let failures = 1;
    const lame = {
      ...log,
      append: (...[channel, event]: Parameters<typeof log.append>) => {
        if (event.type === 'done' && failures-- > 0) throw new HubError('unavailable', 'no disk');
        return log.append(channel, event);
      },
    };
    const task = defineTask({ id: 'told', input, run: () => 1 });
    const { tasks } = await taskRig([task], { clock, log: lame });
    const handle = await tasks.trigger(task, { width: 1 });
    const watching = (async () => {
      const types = [];
      for await (const { event } of handle.events()) types.push(event.type);
      return types;
    })();
    await clock.advance(4999);
    expect(await eventsOf(log, handle.id)).toHaveLength(1);
    await clock.advance(1);
    expect(await watching).toEqual(['task.started', 'done']);
  });

  test('that closes tells first of a run that was just cancelled', async () => {
    const slow = gate();
    const kept = memoryEventLog();
    let isClosed = false;
    const log: EventLog = Object.assign(Object.create(kept) as EventLog, {
      append: async (channel: string, event: NewEvent) => {
        await slow.promise;
        if (isClosed) throw new HubError('unavailable', 'the log is closed');
        await kept.append(channel, event);
      },
    });
    const task = defineTask({ id: 'waiting', input, run: () => 1 });
    const { tasks, facts, store } = await taskRig([task], { log });
    const handle = await tasks.trigger(task, { width: 1 }, { delayMs: 1000 });
    await handle.cancel();
    const closing = tasks.close().then(() => {
      isClosed = true;
    });
    await settle();
    slow.resolve();
    await closing;
    expect((await eventsOf(kept, handle.id)).map(([type]) => type)).toEqual(['done']);
    expect(facts.map(({ kind }) => kind)).toEqual(['run-triggered']);
    expect(await store.unannounced(10)).toEqual([]);
  });

  test('that came back finds ends that nobody was told of, and tells them once', async () => {
    const [clock, store] = [virtualClock(), memoryRunStore()];
    const log = memoryEventLog({ clock });
    const task = defineTask({ id: 'told', input, run: () => 1 });
    const crashed = { ...store, announced: () => new Promise<never>(() => undefined) };
    const first = await taskRig([task], { clock, log, store: crashed });
    const handle = await first.tasks.trigger(task, { width: 1 });
    await clock.advance(10);
    expect(await store.unannounced(10)).toHaveLength(1);
    await taskRig([task], { clock, log, store });
    expect(await store.unannounced(10)).toEqual([]);
    expect((await eventsOf(log, handle.id)).filter(([type]) => type === 'done')).toHaveLength(1);
  });
});
