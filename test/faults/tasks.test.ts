import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { killAll } from './support/child.ts';
import { HubProcess } from './support/hub.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';

afterEach(killAll);

interface Shown {
  readonly type: string;
  readonly epoch: number;
  readonly seq: number;
  readonly data: { readonly data?: number; readonly context: { readonly attempt: number } };
}

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'signalbox-tasks-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

async function ask<Answer>(http: string, at: string, body?: object): Promise<Answer> {
  const headers = { 'content-type': 'application/json' };
  const init = body === undefined ? {} : { method: 'POST', headers, body: JSON.stringify(body) };
  const response = await fetch(`http://${http}${at}`, { ...init, signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return (await response.json()) as Answer;
}

async function history(http: string, id: string): Promise<Shown[]> {
  const events: Shown[] = [];
  let after = '';
  for (;;) {
    const query = after === '' ? '' : `&after=${after}`;
    const page = await ask<{ events: Shown[]; next: string; atEnd: boolean }>(
      http,
      `/v1/tasks/${id}/output?limit=1000${query}`,
    );
    events.push(...page.events);
    after = page.next;
    if (page.atEnd) return events;
  }
}

/** Watches a run over all kills, as a browser does, and returns the types that it was told, to the end. */
async function follow(hub: HubProcess, id: string): Promise<string[]> {
  const types: string[] = [];
  let cursor = '';
  for (;;) {
    try {
      const headers = cursor === '' ? {} : { 'last-event-id': cursor };
      const response = await fetch(`http://${hub.http}/v1/tasks/${id}/events`, { headers });
      if (response.status === 204) return types;
      let text = '';
      for await (const chunk of response.body ?? []) {
        text += Buffer.from(chunk as Uint8Array).toString();
        const blocks = text.split('\n\n');
        text = blocks.pop()!;
        for (const block of blocks) {
          cursor = /^id: (.*)$/m.exec(block)?.[1] ?? cursor;
          const type = /^event: (.*)$/m.exec(block)?.[1];
          if (type !== undefined) types.push(type);
        }
      }
      if (types.at(-1) === 'done') return types;
    } catch {
      await sleep(50); // it is down; it comes back
    }
  }
}

test(
  'a task’s end is seen exactly once, and its steps at least once, whenever its worker is killed',
  async () => {
    const { between } = dice();
    const data = folder();
    const ledger = path.join(data, 'ledger.txt');
    writeFileSync(ledger, '');
    const definitions = path.join(import.meta.dirname, 'support/task-definitions.ts');
    const hub = await HubProcess.start({ data: path.join(data, 'store'), tasks: [definitions], preset: 'test' });
    const [runs, steps, kills] = [size(12, 200), 8, size(4, 200)];
    const ids: string[] = [];
    const watchers: Promise<string[]>[] = [];
    const trigger = async (n: number): Promise<void> => {
      const task = n % 2 === 0 ? 'stepping' : 'stepping-in-thread';
      const body = { task, input: { n, steps, stepMs: between(20, 120), ledger }, idempotencyKey: `run-${n}` };
      await eventually('a run is accepted', async () => {
        try {
          ids[n] = (await ask<{ id: string }>(hub.http, '/v1/tasks', body)).id;
          return true;
        } catch {
          return false;
        }
      });
      watchers.push(follow(hub, ids[n]!));
    };
    let triggered = 0;
    const perKill = Math.ceil(runs / kills);
    for (let kill = 0; kill < kills; kill++) {
      const asked: Promise<void>[] = [];
      for (let i = 0; i < perKill && triggered < runs; i++) asked.push(trigger(triggered++));
      // In the middle of triggering, of the first steps, or of the last ones.
      if (between(0, 2) > 0) await Promise.all(asked);
      // Up for long enough now and then that a thread gets to its next step.
      await sleep(between(0, size(400, 1200)));
      await hub.child.kill();
      await hub.start();
      await Promise.all(asked);
    }
    while (triggered < runs) await trigger(triggered++);
    const startMs = performance.now();
    const seen = await Promise.all(watchers);
    figures(`tasks: all ended ${Math.round(performance.now() - startMs)} ms after the last of ${kills} kills`);

    const done = new Map<number, Set<number>>();
    for (const line of readFileSync(ledger, 'utf8').trim().split('\n')) {
      const [n, step] = line.split(' ').map(Number);
      done.set(n!, (done.get(n!) ?? new Set()).add(step!));
    }
    expect(new Set(ids).size).toBe(runs);
    for (const [n, id] of ids.entries()) {
      expect(await ask(hub.http, `/v1/tasks/${id}`)).toMatchObject({ state: 'succeeded', result: { n } });
      const events = await history(hub.http, id);
      expect(events.filter(({ type }) => type === 'done')).toHaveLength(1);
      expect(events.at(-1)!.type).toBe('done');
      // What an earlier attempt said does not come after a later one has begun.
      const attempts = events.map(({ data }) => data.context.attempt);
      expect(attempts).toEqual([...attempts].sort((a, b) => a - b));
      const told = new Set(events.filter(({ type }) => type === 'data').map(({ data }) => data.data));
      expect([...told].sort()).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
      expect(done.get(n)?.size).toBe(steps);
    }
    for (const types of seen) expect(types.filter((type) => type === 'done')).toHaveLength(1);
  },
  size(120_000, 1_800_000),
);

test('watchers that are cut again and again miss nothing without a word', async () => {
  const { between } = dice();
  const data = folder();
  const ledger = path.join(data, 'ledger.txt');
  const definitions = path.join(import.meta.dirname, 'support/task-definitions.ts');
  const hub = await HubProcess.start({
    data: path.join(data, 'store'),
    tasks: [definitions],
    preset: 'test',
    streamsPerUser: 0,
  });
  const steps = size(150, 600);
  const body = { task: 'stepping', input: { n: 1, steps, stepMs: 5, ledger } };
  const { id } = await ask<{ id: string }>(hub.http, '/v1/tasks', body);
  const cuts = size(50, 500);
  let left = cuts;
  const watcher = async (): Promise<number[]> => {
    const seen: number[] = [];
    let cursor = '';
    for (;;) {
      const leave = new AbortController();
      // Every watcher is cut in the middle, some of them in the middle of a frame.
      const timer = left-- > 0 ? setTimeout(() => leave.abort(), between(5, 200)) : undefined;
      try {
        const headers = cursor === '' ? {} : { 'last-event-id': cursor };
        const response = await fetch(`http://${hub.http}/v1/tasks/${id}/events`, { headers, signal: leave.signal });
        if (response.status === 204) return seen;
        let text = '';
        for await (const chunk of response.body ?? []) {
          text += Buffer.from(chunk as Uint8Array).toString();
          const blocks = text.split('\n\n');
          text = blocks.pop()!;
          for (const block of blocks) {
            cursor = /^id: (.*)$/m.exec(block)?.[1] ?? cursor;
            const type = /^event: (.*)$/m.exec(block)?.[1];
            expect(type ?? '').not.toMatch(/^hub\.(gap|reset)$/);
            const json = /^data: (.*)$/m.exec(block)?.[1];
            if (type === 'data') seen.push(JSON.parse(json!).data.data);
            if (type === 'done') return seen;
          }
        }
      } catch (error) {
        if (!leave.signal.aborted) throw error;
      } finally {
        clearTimeout(timer);
      }
    }
  };
  const all = await Promise.all(Array.from({ length: 10 }, watcher));
  for (const seen of all) expect(seen).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  expect(left).toBeLessThanOrEqual(0);
});
