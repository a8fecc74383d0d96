import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Authenticator } from '../../src/auth/principal.ts';
import { HubError } from '../../src/errors.ts';
import { channelKey } from '../../src/events/channels.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { defineTask, memoryRunStore, runChannel, Tasks } from '../../src/tasks/index.ts';
import { type Rig, rig, watch } from './support.ts';

const gates = new Map<string, PromiseWithResolvers<void>>();
const steps = defineTask({
  id: 'steps',
  input: z.object({ gate: z.string().optional(), fail: z.boolean().optional() }),
  async run({ gate, fail }, ctx) {
    await ctx.progress(50, 'half');
    if (gate !== undefined) {
      const opened = Promise.withResolvers<void>();
      gates.set(gate, opened);
      ctx.signal.addEventListener('abort', () => opened.reject(ctx.signal.reason));
      await opened.promise;
    }
    if (fail) throw new Error('as asked');
    return { ok: true };
  },
});

/** Who one is, one says oneself. */
const byName: Authenticator = {
  async authenticate({ bearer = '' }) {
    const [subject = '', scopes = ''] = bearer.split('/');
    if (subject === '') throw new HubError('unauthenticated', 'no token');
    return { subject, tenant: 'default', scopes: new Set(scopes.split('+')) as never };
  },
};

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function open(options: { authenticator?: Authenticator } = {}) {
  const log = memoryEventLog();
  const store = memoryRunStore();
  const tasks = new Tasks({ tasks: [steps], log, store });
  await tasks.start();
  const opened: Rig = await rig({ log, tasks, ...options });
  closers.push(
    () => tasks.close(),
    async () => opened[Symbol.asyncDispose](),
  );
  const { url } = opened;
  const call = async (path: string, { as, ...init }: RequestInit & { as?: string } = {}) => {
    const headers = { 'content-type': 'application/json', ...(as && { authorization: `Bearer ${as}` }) };
    const response = await fetch(url + path, { ...init, headers: { ...headers, ...init.headers } });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) };
  };
  const trigger = (body: object, as?: string) =>
    call('/v1/tasks', {
      method: 'POST',
      body: JSON.stringify({ task: 'steps', input: {}, ...body }),
      ...(as && { as }),
    });
  return { ...opened, tasks, store, log, url, call, trigger };
}

describe('a task over HTTP', () => {
  test('is triggered, and its run tells state, times and result', async () => {
    const { trigger, call } = await open();
    const { status, headers, body } = await trigger({ wait: 'result', tags: ['x'], priority: 3 });
    expect(status).toBe(200);
    expect(headers.get('location')).toBe(`/v1/tasks/${body.id}`);
    expect(body).toMatchObject({ task: 'steps', state: 'succeeded', result: { ok: true }, tags: ['x'], priority: 3 });
    expect(Date.parse(body.createdAt)).toBeLessThanOrEqual(Date.parse(body.completedAt));
    expect((await call(`/v1/tasks/${body.id}`)).body).toEqual(body);
    expect((await call('/v1/tasks')).body.runs).toEqual([body]);
    expect((await call('/v1/tasks?state=failed')).body.runs).toEqual([]);
    expect((await call('/v1/task-types')).body).toEqual({ tasks: [{ id: 'steps', isolation: 'inline' }] });
  });

  test('that is accepted answers 202, and twice with one key is one run', async () => {
    const { trigger, call } = await open();
    const [a, b] = [await trigger({ idempotencyKey: 'k', delayMs: 60_000 }), await trigger({ idempotencyKey: 'k' })];
    expect([a.status, b.body.id]).toEqual([202, a.body.id]);
    const other = await trigger({ idempotencyKey: 'k', input: { fail: true } });
    expect(other).toMatchObject({ status: 409, body: { code: 'idempotency-conflict' } });
    expect((await call(`/v1/tasks/${a.body.id}/cancel`, { method: 'POST', body: '{}' })).body).toMatchObject({
      state: 'cancelled',
    });
  });

  test.each([
    [{ task: 'nothing' }, 404, 'there is no task "nothing" here, only: steps'],
    [{ input: { gate: 5 } }, 400, 'input.gate'],
    [{ priority: 1000 }, 400, 'priority'],
    [{ owner: 'a b' }, 400, 'owner "a b"'],
    [{ sudo: true }, 400, 'unknown field "sudo"'],
  ])('with a bad request %j is refused by name', async (body, status, detail) => {
    const { trigger } = await open();
    const answer = await trigger(body);
    expect(answer.status).toBe(status);
    expect(answer.body.detail).toContain(detail);
  });

  test('that fails says why', async () => {
    const { trigger } = await open();
    expect((await trigger({ input: { fail: true }, wait: 'result' })).body).toMatchObject({
      state: 'failed',
      error: { code: 'error', message: 'as asked' },
    });
  });
});

describe('watching a run', () => {
  test.each([
    (id: string) => `/v1/tasks/${id}/events`,
    (id: string) => `/stream/steps/${id}`,
    (id: string) => `/api/v1/ai/jobs/${id}/stream/`,
    (id: string) => `/api/v1/ai/jobs/${id}/stream`,
  ])('goes from its first event to its last, and then there is nothing to come back for: %s', async (path) => {
    const { trigger, url } = await open();
    const { body } = await trigger({ input: { gate: path('x') } });
    const stream = await watch(url + path(body.id));
    expect((await stream.event()).name).toBe('task.started');
    const half = await stream.event();
    expect(JSON.parse(half.data)).toMatchObject({
      channel: `task.${body.id}`,
      type: 'progress',
      data: { percent: 50, step: 'half', context: { runId: body.id, task: 'steps', attempt: 1 } },
    });
    gates.get(path('x'))!.resolve();
    const rest = await stream.rest();
    expect(rest.map(({ name }) => name)).toEqual(['done']);
    const again = await fetch(url + path(body.id), { headers: { 'last-event-id': rest[0]!.id } });
    expect(again.status).toBe(204);
    const late = await watch(url + path(body.id), { headers: { 'last-event-id': half.id } });
    expect((await late.rest()).filter(({ data }) => data !== '').map(({ name }) => name)).toEqual(['done']);
  });

  test('by the name of another task is not found', async () => {
    const { trigger, call } = await open();
    const { body } = await trigger({});
    expect((await call(`/stream/other/${body.id}`)).status).toBe(404);
    expect((await call('/v1/tasks/nobody/events')).status).toBe(404);
  });

  test('can be the answer to the trigger itself, and leaving cancels nothing', async () => {
    const { url, tasks } = await open();
    const stream = await watch(`${url}/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ task: 'steps', input: { gate: 'left' } }),
    });
    const id = stream.response.headers.get('location')!.split('/').at(-1)!;
    expect((await stream.event()).name).toBe('task.started');
    await stream.event();
    stream.leave();
    gates.get('left')!.resolve();
    expect(await (await tasks.get(id)).result()).toEqual({ ok: true });
  });

  test('a cancel is seen as the end', async () => {
    const { trigger, url, call } = await open();
    const { body } = await trigger({ input: { gate: 'cancel' } });
    const stream = await watch(`${url}/v1/tasks/${body.id}/events`);
    await stream.event();
    await stream.event();
    const answer = await call(`/v1/tasks/${body.id}/cancel`, { method: 'POST', body: '{"reason":"enough"}' });
    expect(answer.body).toMatchObject({ state: 'running', cancelReason: 'enough' });
    expect(JSON.parse((await stream.rest())[0]!.data)).toMatchObject({
      type: 'done',
      data: { success: false, state: 'cancelled', error: 'enough' },
    });
  });

  test('whose end the channel does not have ends all the same: the store knows it', async () => {
    const { store, url } = await open();
    const run = { id: 'r1', tenant: 'default', task: 'gone', input: '{}', owner: undefined, tags: [], priority: 0 };
    const more = { idempotencyKey: undefined, concurrency: undefined, dueAtMs: 0, deadlineMs: undefined };
    await store.add({ ...run, ...more }, { nowMs: 1, maxQueued: 10 });
    await store.cancel('default', 'r1', 'long ago', 2);
    await store.announced(['r1']);
    const stream = await watch(`${url}/v1/tasks/r1/events`);
    const events = (await stream.rest()).filter(({ data }) => data !== '');
    expect(events.map(({ name }) => name)).toEqual(['done']);
    expect(JSON.parse(events[0]!.data).data).toMatchObject({ state: 'cancelled', error: 'long ago' });
  });

  test('whose end a browser has seen before the hub was restarted has nothing more for it', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-seen-'));
    closers.push(async () => rmSync(directory, { recursive: true, force: true }));
    let [id, cursor] = ['', ''];
    for (let start = 0; start < 3; start++) {
      const opened = await openSqlite({ directory });
      const tasks = new Tasks({ tasks: [steps], log: opened.log, store: opened.runs });
      await tasks.start();
      const gateway = await rig({ log: opened.log, tasks });
      const { url } = gateway;
      if (start === 0) {
        const handle = await tasks.trigger(steps, {});
        const stream = await watch(`${url}/v1/tasks/${handle.id}/events`);
        cursor = (await stream.rest()).at(-1)!.id;
        id = handle.id;
      } else {
        const again = await fetch(`${url}/v1/tasks/${id}/events`, { headers: { 'last-event-id': cursor } });
        expect(again.status).toBe(204);
        const all = await watch(`${url}/v1/tasks/${id}/events`);
        expect((await all.rest()).at(-1)!.name).toBe('done');
      }
      await gateway[Symbol.asyncDispose]();
      await tasks.close();
      await opened.close();
    }
  });

  test('has a snapshot for who comes late, to go on from without a hole', async () => {
    const { trigger, call, url } = await open();
    const { body } = await trigger({ input: { gate: 'late' } });
    const stream = await watch(`${url}/v1/tasks/${body.id}/events`);
    await stream.event();
    await stream.event();
    const page = (await call(`/v1/tasks/${body.id}/output?limit=1`)).body;
    expect(page).toMatchObject({ state: 'running', attempt: 1, events: [{ type: 'task.started' }], atEnd: false });
    const next = (await call(`/v1/tasks/${body.id}/output?after=${page.next}`)).body;
    expect(next).toMatchObject({ events: [{ type: 'progress', data: { percent: 50 } }], atEnd: true });
    gates.get('late')!.resolve();
    const rest = await watch(`${url}/v1/tasks/${body.id}/events?last_event_id=${next.next}`);
    expect((await rest.rest()).filter(({ data }) => data !== '').map(({ name }) => name)).toEqual(['done']);
    expect((await call(`/v1/tasks/${body.id}/output?after=AAAA`)).status).toBe(400);
  });
});

describe('who may', () => {
  test('see, watch and cancel a run: its owner, and those with tasks:read or admin as far as that goes', async () => {
    const { trigger, call } = await open({ authenticator: byName });
    const { body } = await trigger({ input: { gate: 'own' } }, 'ann/tasks:run');
    expect(body.owner).toBe('ann');
    const path = `/v1/tasks/${body.id}`;
    const status = async (as: string, at = path, init: RequestInit = {}) => (await call(at, { as, ...init })).status;
    const cancel = { method: 'POST', body: '{}' };
    expect(await status('ann/tasks:run')).toBe(200);
    expect(await status('bob/tasks:run')).toBe(404);
    expect(await status('bob/tasks:run', `${path}/events`)).toBe(404);
    expect(await status('bob/tasks:run', `${path}/output`)).toBe(404);
    expect(await status('bob/tasks:run', `${path}/cancel`, cancel)).toBe(404);
    expect(await status('eve/events:read')).toBe(403);
    expect(await status('ops/tasks:read')).toBe(200);
    expect(await status('ops/tasks:read', `${path}/cancel`, cancel)).toBe(403);
    expect(await status('bob/tasks:run+tasks:read', `${path}/cancel`, cancel)).toBe(403);
    expect((await call('/v1/tasks', { as: 'bob/tasks:run' })).body.runs).toEqual([]);
    expect((await call('/v1/tasks', { as: 'ops/tasks:read' })).body.runs).toHaveLength(1);
    expect(await status('bob/tasks:run', '/v1/tasks?owner=ann')).toBe(403);
    expect((await trigger({ owner: 'ann' }, 'bob/tasks:run')).status).toBe(403);
    expect(await status('root/admin', `${path}/cancel`, cancel)).toBe(200);
  });

  test('see what is pushed to a user: that user alone', async () => {
    const { trigger, call, url, log } = await open({ authenticator: byName });
    const own = await watch(`${url}/v1/events?channel=user.ann`, {
      headers: { authorization: 'Bearer ann/tasks:run+events:read' },
    });
    expect((await call('/v1/events?channel=user.ann', { as: 'bob/events:read' })).status).toBe(403);
    expect((await call('/v1/channels/user.ann/history', { as: 'bob/events:read' })).status).toBe(403);
    const { body } = await trigger({}, 'ann/tasks:run');
    const event = await own.event();
    expect(event.name).toBe('task.succeeded');
    expect(JSON.parse(event.data).data).toMatchObject({ result: { ok: true }, context: { runId: body.id } });
    own.leave();
    expect(await log.end(channelKey('default', 'user.bob'))).toMatchObject({ seq: 0 });
    expect(runChannel(body.id)).toBe(`task.${body.id}`);
  });
});

test('a thousand watchers of one run each see all of it, once', async () => {
  const { trigger, url } = await open();
  const { body } = await trigger({ input: { gate: 'crowd' } });
  const watchers = await Promise.all(Array.from({ length: 1000 }, () => watch(`${url}/v1/tasks/${body.id}/events`)));
  await Promise.all(watchers.map((each) => each.event()));
  gates.get('crowd')!.resolve();
  for (const each of watchers)
    expect((await each.rest()).filter(({ data }) => data !== '').map(({ name }) => name)).toEqual(['progress', 'done']);
});
