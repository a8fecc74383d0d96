import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { Run, WhenFull } from '../../src/tasks/run.ts';
import type { AttemptEnd, ClaimRequest, NewRun, RunStore } from '../../src/tasks/run-store.ts';

export function newRun(changes: Partial<NewRun> = {}): NewRun {
  return {
    id: randomUUID(),
    tenant: 'default',
    task: 'resize',
    input: '{"width":100}',
    owner: undefined,
    tags: [],
    priority: 0,
    idempotencyKey: undefined,
    concurrency: undefined,
    dueAtMs: 1000,
    deadlineMs: undefined,
    ...changes,
  };
}

const ok: AttemptEnd = { kind: 'succeeded', result: '"done"' };
const boom = { code: 'error', message: 'boom' };
const limited = (onFull: WhenFull, limit = 1, key = 'k') => ({ concurrency: { key, limit, onFull } });
const claimOf = ({ id, epoch }: Run) => ({ id, epoch });
const ids = (runs: readonly Run[]) => runs.map(({ id }) => id);

/** What every `RunStore` has to do. `open` makes an empty one. */
export function runStoreContract(name: string, open: () => Promise<{ store: RunStore; close(): Promise<void> }>): void {
  describe(`RunStore: ${name}`, () => {
    const closers: (() => Promise<void>)[] = [];
    const opened = async () => {
      const { store, close } = await open();
      closers.push(close);
      return store;
    };
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });
    const add = async (store: RunStore, changes: Partial<NewRun> = {}, nowMs = 1000) => {
      const outcome = await store.add(newRun(changes), { nowMs, maxQueued: 100 });
      if (outcome.kind !== 'stored') throw new Error(`not stored: ${outcome.kind}`);
      return outcome.run;
    };
    const claim = (store: RunStore, changes: Partial<ClaimRequest> = {}) => {
      const nowMs = changes.nowMs ?? 2000;
      const request = { worker: 'w1', tasks: ['resize'], limit: 10, nowMs, untilMs: nowMs + 8000, maxCrashes: 2 };
      return store.claim({ ...request, ...changes });
    };

    test('a run comes back as it was added, and only to its own tenant', async () => {
      const store = await opened();
      const run = newRun({ owner: 'ann', tags: ['a', 'b'], priority: 5, idempotencyKey: 'once', deadlineMs: 9000 });
      await store.add(run, { nowMs: 1500, maxQueued: 100 });
      expect(await store.get('default', run.id)).toEqual({
        ...run,
        state: 'queued',
        epoch: 0,
        failures: 0,
        crashes: 0,
        createdAtMs: 1500,
        updatedAtMs: 1500,
        startedAtMs: undefined,
        endedAtMs: undefined,
        cancelReason: undefined,
        checkpoint: undefined,
        result: undefined,
        error: undefined,
      });
      expect(await store.get('other', run.id)).toBeUndefined();
      expect(await store.cancel('other', run.id, 'not mine', 1)).toBeUndefined();
    });

    test('one idempotency key is one run; with another input it is a conflict', async () => {
      const store = await opened();
      const first = await add(store, { idempotencyKey: 'once' });
      const options = { nowMs: 1000, maxQueued: 100 };
      const again = await store.add(newRun({ idempotencyKey: 'once' }), options);
      expect(again).toMatchObject({ kind: 'existing', run: { id: first.id } });
      const other = await store.add(newRun({ idempotencyKey: 'once', input: '{}' }), options);
      expect(other).toMatchObject({ kind: 'conflict' });
      expect(await store.add(newRun({ idempotencyKey: 'once', task: 'other' }), options)).toMatchObject({
        kind: 'stored',
      });
      expect(await store.add(newRun({ idempotencyKey: 'once', tenant: 't2' }), options)).toMatchObject({
        kind: 'stored',
      });
      expect(await store.add(newRun({ id: first.id, input: '[]' }), options)).toMatchObject({ kind: 'conflict' });
    });

    test('runs are claimed by priority, then in their order, once each, and only of known tasks', async () => {
      const store = await opened();
      const a = await add(store);
      const b = await add(store, { priority: 10 });
      const c = await add(store);
      await add(store, { task: 'unknown' });
      expect(ids((await claim(store, { limit: 2 })).runs)).toEqual([b.id, a.id]);
      const rest = await claim(store);
      expect(ids(rest.runs)).toEqual([c.id]);
      expect(rest.runs[0]).toMatchObject({ state: 'running', epoch: 1, startedAtMs: 2000 });
      expect((await claim(store)).runs).toEqual([]);
    });

    test('a run that could begin where it was triggered is claimed once: by that, or by the next claim', async () => {
      const store = await opened();
      const place = { worker: 'w1', untilMs: 9000 };
      const added = await store.add(newRun(), { nowMs: 1000, maxQueued: 100, claim: place });
      if (added.kind !== 'stored') throw new Error(added.kind);
      const { runs } = await claim(store);
      const isClaimed = added.run.state === 'running';
      expect(ids(runs)).toEqual(isClaimed ? [] : [added.run.id]);
      const run = isClaimed ? added.run : runs[0]!;
      expect(run).toMatchObject({ state: 'running', epoch: 1, crashes: 0, startedAtMs: isClaimed ? 1000 : 2000 });
      expect(await store.get('default', run.id)).toEqual(run);
      // Whichever it was: it lasts as any claim does.
      expect(await store.renew([claimOf(run)], { nowMs: 2000, untilMs: 5000 })).toEqual(['kept']);
      expect((await claim(store, { nowMs: 6000 })).runs).toMatchObject([{ id: run.id, epoch: 2, crashes: 1 }]);
    });

    test('no run begins where it was triggered before its time, before one that waits, or beyond its limit', async () => {
      const store = await opened();
      const stateOf = async (changes: Partial<NewRun>, nowMs = 1000) => {
        const place = { worker: 'w1', untilMs: nowMs + 50_000 };
        const outcome = await store.add(newRun(changes), { nowMs, maxQueued: 100, claim: place });
        return outcome.kind === 'stored' ? outcome.run.state : outcome.kind;
      };
      expect(await stateOf({ dueAtMs: 1001 })).toBe('queued');
      // The one before is due by now.
      expect(await stateOf({ dueAtMs: 1001 }, 1001)).toBe('queued');
      expect((await claim(store)).runs).toHaveLength(2);
      await store.add(newRun(limited('queue')), { nowMs: 1000, maxQueued: 100 });
      expect((await claim(store)).runs).toHaveLength(1);
      expect(await stateOf(limited('queue'))).toBe('queued');
      expect(await stateOf(limited('reject'))).toBe('full');
      expect(await stateOf({ priority: -1 })).toBe('queued');
    });

    test('one run can be asked for by its id', async () => {
      const store = await opened();
      await add(store);
      const b = await add(store);
      expect(ids((await claim(store, { id: b.id, limit: 1 })).runs)).toEqual([b.id]);
      expect((await claim(store, { id: b.id, limit: 1 })).runs).toEqual([]);
      expect((await claim(store, { id: 'nobody', limit: 1 })).runs).toEqual([]);
    });

    test('a delayed run waits for its time, and the store says when that is', async () => {
      const store = await opened();
      const later = await add(store, { dueAtMs: 5000 });
      expect(await claim(store, { nowMs: 4999 })).toEqual({ runs: [], ended: [], nextDueMs: 5000 });
      expect(ids((await claim(store, { nowMs: 5000 })).runs)).toEqual([later.id]);
    });

    test('a claim that is not renewed goes to the next worker with a new epoch, and the old one is refused', async () => {
      const store = await opened();
      await add(store);
      const [first] = (await claim(store, { nowMs: 2000 })).runs;
      expect((await claim(store, { nowMs: 9999 })).nextDueMs).toBe(10_000);
      expect(await store.renew([claimOf(first!)], { nowMs: 9999, untilMs: 18_000 })).toEqual(['kept']);
      expect((await claim(store, { nowMs: 17_999 })).runs).toEqual([]);
      const [second] = (await claim(store, { nowMs: 18_000, worker: 'w2' })).runs;
      expect(second).toMatchObject({ id: first!.id, epoch: 2, crashes: 1, startedAtMs: 2000 });
      expect(await store.renew([claimOf(first!), claimOf(second!)], { nowMs: 18_001, untilMs: 20_000 })).toEqual([
        'lost',
        'kept',
      ]);
      expect(await store.checkpoint(claimOf(first!), '1', 18_002)).toBe(false);
      expect(await store.settle(claimOf(first!), ok, 18_002)).toBeUndefined();
      expect(await store.get('default', first!.id)).toMatchObject({ state: 'running', checkpoint: undefined });
      expect(await store.settle(claimOf(second!), ok, 18_003)).toMatchObject({ state: 'succeeded', result: '"done"' });
      expect(await store.settle(claimOf(second!), { kind: 'failed', error: boom }, 18_004)).toBeUndefined();
    });

    test('a run that loses its workers again and again fails', async () => {
      const store = await opened();
      const run = await add(store);
      for (let crash = 0; crash < 3; crash++) {
        const { runs, ended } = await claim(store, { nowMs: 2000 + crash * 10_000 });
        expect([ids(runs), ids(ended)]).toEqual([[run.id], []]);
      }
      const { runs, ended } = await claim(store, { nowMs: 90_000 });
      expect(runs).toEqual([]);
      expect(ended).toMatchObject([{ id: run.id, state: 'failed', error: { code: 'worker-lost' } }]);
    });

    test('a failed attempt comes again when it is due, with its checkpoint and its error', async () => {
      const store = await opened();
      await add(store);
      const [first] = (await claim(store)).runs;
      expect(await store.checkpoint(claimOf(first!), '{"step":2}', 2100)).toBe(true);
      const retried = await store.settle(claimOf(first!), { kind: 'retry', error: boom, dueAtMs: 3000 }, 2200);
      expect(retried).toMatchObject({ state: 'queued', failures: 1, error: boom, dueAtMs: 3000 });
      expect((await claim(store, { nowMs: 2999 })).runs).toEqual([]);
      expect((await claim(store, { nowMs: 3000 })).runs).toMatchObject([
        { epoch: 2, checkpoint: '{"step":2}', failures: 1, crashes: 0 },
      ]);
    });

    test('a run that gets on is not held to account for the workers it has lost before', async () => {
      const store = await opened();
      const run = await add(store);
      let nowMs = 2000;
      for (let i = 0; i < 5; i++) {
        const [claimed] = (await claim(store, { nowMs })).runs;
        expect(claimed).toMatchObject({ id: run.id, epoch: i + 1, crashes: Math.min(i, 1) });
        expect(await store.checkpoint(claimOf(claimed!), `${i}`, nowMs)).toBe(true);
        nowMs += 8001;
      }
    });

    test('a run that its worker gives back is due at once, and nobody is to blame', async () => {
      const store = await opened();
      await add(store);
      const [first] = (await claim(store)).runs;
      await store.settle(claimOf(first!), { kind: 'released' }, 2100);
      expect((await claim(store, { nowMs: 2100 })).runs).toMatchObject([{ epoch: 2, failures: 0, crashes: 0 }]);
    });

    test('a run that its worker gives back for later is due then', async () => {
      const store = await opened();
      await add(store);
      const [first] = (await claim(store)).runs;
      const end = { kind: 'released', dueAtMs: 3000 } as const;
      expect(await store.settle(claimOf(first!), end, 2100)).toMatchObject({ state: 'queued', dueAtMs: 3000 });
      expect(await claim(store, { nowMs: 2900 })).toMatchObject({ runs: [], nextDueMs: 3000 });
      expect((await claim(store, { nowMs: 3000 })).runs).toMatchObject([{ epoch: 2, failures: 0, crashes: 0 }]);
    });

    test('a waiting run is cancelled at once, a running one is told with its next renewal', async () => {
      const store = await opened();
      const running = await add(store);
      const [claimed] = (await claim(store)).runs;
      const waiting = await add(store);
      expect(await store.cancel('default', waiting.id, 'too late', 2500)).toMatchObject({
        state: 'cancelled',
        endedAtMs: 2500,
        error: { code: 'cancelled', message: 'too late' },
      });
      expect((await claim(store)).runs).toEqual([]);
      expect(await store.cancel('default', running.id, 'stop', 2600)).toMatchObject({
        state: 'running',
        cancelReason: 'stop',
      });
      expect(await store.cancel('default', running.id, 'again', 2601)).toMatchObject({ cancelReason: 'stop' });
      expect(await store.renew([claimOf(claimed!)], { nowMs: 2700, untilMs: 9000 })).toEqual([
        { cancelReason: 'stop' },
      ]);
      await store.settle(claimOf(claimed!), { kind: 'cancelled', error: { code: 'cancelled', message: 'stop' } }, 2800);
      expect(await store.cancel('default', running.id, 'after', 2900)).toMatchObject({
        state: 'cancelled',
        endedAtMs: 2800,
      });
    });

    test('a cancel that comes while an attempt fails is not forgotten over the next one', async () => {
      const store = await opened();
      const run = await add(store);
      const [claimed] = (await claim(store)).runs;
      await store.cancel('default', run.id, 'stop', 2100);
      expect(await store.settle(claimOf(claimed!), { kind: 'retry', error: boom, dueAtMs: 3000 }, 2200)).toMatchObject({
        state: 'cancelled',
        error: { code: 'cancelled', message: 'stop' },
      });
    });

    test('a cancelled run whose worker is lost ends as cancelled', async () => {
      const store = await opened();
      const run = await add(store);
      await claim(store);
      await store.cancel('default', run.id, 'stop', 2100);
      expect(await claim(store, { nowMs: 50_000 })).toMatchObject({
        runs: [],
        ended: [{ id: run.id, state: 'cancelled' }],
      });
    });

    test('a run whose whole time is over fails without being started', async () => {
      const store = await opened();
      const run = await add(store, { deadlineMs: 3000, dueAtMs: 2500 });
      expect((await claim(store, { nowMs: 2400 })).nextDueMs).toBe(2500);
      expect(await claim(store, { nowMs: 3000 })).toMatchObject({
        runs: [],
        ended: [{ id: run.id, state: 'failed', error: { code: 'timed-out' }, startedAtMs: undefined }],
      });
    });

    test('queue: runs of one key wait for each other, others pass them by', async () => {
      const store = await opened();
      const a = await add(store, limited('queue', 2));
      const b = await add(store, limited('queue', 2));
      const c = await add(store, limited('queue', 2));
      const d = await add(store, limited('queue', 2));
      const other = await add(store, limited('queue', 2, 'other'));
      const { runs } = await claim(store);
      expect(ids(runs)).toEqual([a.id, b.id, other.id]);
      expect((await claim(store)).runs).toEqual([]);
      await store.settle(claimOf(runs[0]!), ok, 2500);
      expect(ids((await claim(store)).runs)).toEqual([c.id]);
      await store.settle(claimOf(runs[1]!), { kind: 'retry', error: boom, dueAtMs: 9000 }, 2600);
      expect(ids((await claim(store)).runs)).toEqual([d.id]);
    });

    test('reject: a run beyond the limit of its key is refused until one has ended', async () => {
      const store = await opened();
      const a = await add(store, limited('reject'));
      const options = { nowMs: 1000, maxQueued: 100 };
      expect(await store.add(newRun(limited('reject')), options)).toMatchObject({ kind: 'full' });
      const [claimed] = (await claim(store)).runs;
      expect(await store.add(newRun(limited('reject')), options)).toMatchObject({ kind: 'full' });
      await store.settle(claimOf(claimed!), ok, 2100);
      expect(a.id).toBe(claimed!.id);
      expect(await store.add(newRun(limited('reject')), options)).toMatchObject({ kind: 'stored' });
    });

    test('cancel-oldest: the new run is asked for in the place of the oldest, and comes once that has ended', async () => {
      const store = await opened();
      const a = await add(store, limited('cancel-oldest'));
      const [claimed] = (await claim(store)).runs;
      const second = await store.add(newRun(limited('cancel-oldest')), { nowMs: 2000, maxQueued: 100 });
      expect(second).toMatchObject({ kind: 'stored', cancelled: [{ id: a.id, state: 'running' }] });
      const third = await store.add(newRun(limited('cancel-oldest')), { nowMs: 2001, maxQueued: 100 });
      const secondId = second.kind === 'stored' ? second.run.id : '';
      expect(third).toMatchObject({ kind: 'stored', cancelled: [{ id: secondId, state: 'cancelled' }] });
      expect((await claim(store)).runs).toEqual([]);
      await store.settle(claimOf(claimed!), { kind: 'cancelled', error: boom }, 2100);
      expect(ids((await claim(store)).runs)).toEqual([third.kind === 'stored' ? third.run.id : '']);
    });

    test('cancel-newest: the new run is kept as cancelled', async () => {
      const store = await opened();
      const a = await add(store, limited('cancel-newest'));
      const b = await store.add(newRun(limited('cancel-newest')), { nowMs: 2000, maxQueued: 100 });
      expect(b).toMatchObject({ kind: 'stored', run: { state: 'cancelled' }, cancelled: [] });
      expect(ids((await claim(store)).runs)).toEqual([a.id]);
    });

    test('no more runs wait than they may', async () => {
      const store = await opened();
      const options = { nowMs: 1000, maxQueued: 2 };
      await store.add(newRun(), options);
      await store.add(newRun({ dueAtMs: 99_000 }), options);
      expect(await store.add(newRun(), options)).toMatchObject({ kind: 'full' });
      await claim(store);
      expect(await store.add(newRun(), options)).toMatchObject({ kind: 'stored' });
    });

    test('ended runs are unannounced until they are announced, and only then forgotten', async () => {
      const store = await opened();
      const a = await add(store);
      const b = await add(store);
      await add(store);
      const { runs } = await claim(store, { limit: 2 });
      for (const run of runs) await store.settle(claimOf(run), ok, 3000);
      expect(ids(await store.unannounced(10))).toEqual([a.id, b.id]);
      await store.announced([a.id, 'nobody']);
      expect(ids(await store.unannounced(10))).toEqual([b.id]);
      expect(await store.prune({ endedBeforeMs: 3000, maxEnded: 100 })).toBe(0);
      expect(await store.prune({ endedBeforeMs: 3001, maxEnded: 100 })).toBe(1);
      expect(await store.get('default', a.id)).toBeUndefined();
      await store.announced([b.id]);
      expect(await store.prune({ endedBeforeMs: 0, maxEnded: 0 })).toBe(1);
      expect(await store.list({ tenant: 'default', limit: 10 })).toHaveLength(1);
    });

    test('runs are listed newest first, by task, owner, state and tag', async () => {
      const store = await opened();
      const a = await add(store, { owner: 'ann', tags: ['x'] });
      const b = await add(store, { owner: 'bob', task: 'other' });
      await add(store, { tenant: 't2', owner: 'ann' });
      const list = async (filter: object) => ids(await store.list({ tenant: 'default', limit: 10, ...filter }));
      expect(await list({})).toEqual([b.id, a.id]);
      expect(await list({ limit: 1 })).toEqual([b.id]);
      expect(await list({ owner: 'ann' })).toEqual([a.id]);
      expect(await list({ task: 'other' })).toEqual([b.id]);
      expect(await list({ tag: 'x' })).toEqual([a.id]);
      expect(await list({ state: 'running' })).toEqual([]);
    });

    test('whatever happens in whatever order, no key runs over its limit and every run ends once', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(99), { minLength: 20, maxLength: 80 }), async (dice) => {
          const { store, close } = await open();
          try {
            await checkLimits(store, dice);
          } finally {
            await close();
          }
        }),
        { numRuns: name === 'memory' ? 200 : 25 },
      );
    });
  });
}

/** Adds, claims, loses, settles and cancels by dice, and then lets everything end. */
async function checkLimits(store: RunStore, dice: readonly number[]): Promise<void> {
  let nowMs = 1000;
  const held = new Map<string, Run>();
  const all = new Set<string>();
  const ended = new Set<string>();
  const endOf = (run: Run | undefined) => {
    if (!run || run.state === 'queued' || run.state === 'running') return;
    if (ended.has(run.id)) throw new Error(`${run.id} ended twice`);
    ended.add(run.id);
    held.delete(run.id);
  };
  const take = async (limit: number) => {
    const request = { worker: 'w', tasks: ['resize'], limit, nowMs, untilMs: nowMs + 50, maxCrashes: 3 };
    const claimed = await store.claim(request);
    for (const run of claimed.ended) endOf(run);
    for (const run of claimed.runs) held.set(run.id, run);
    for (const key of ['a', 'b']) {
      const running = (await store.list({ tenant: 'default', state: 'running', limit: 1000 })).filter(
        ({ concurrency }) => concurrency?.key === key,
      );
      if (running.length > 2) throw new Error(`${running.length} of key ${key} run at once`);
    }
    return claimed.runs.length;
  };
  for (const die of dice) {
    nowMs += die % 30;
    const some = [...held.values()][die % Math.max(1, held.size)];
    if (die < 40) {
      const concurrency =
        die % 3 === 0 ? undefined : { key: die % 3 === 1 ? 'a' : 'b', limit: 2, onFull: 'queue' as const };
      const outcome = await store.add(newRun({ concurrency, dueAtMs: nowMs + (die % 4) * 10 }), {
        nowMs,
        maxQueued: 1000,
      });
      if (outcome.kind === 'stored') all.add(outcome.run.id);
    } else if (die < 60) await take(die % 4);
    else if (die < 75 && some) endOf(await store.settle(claimOf(some), ok, nowMs));
    else if (die < 85 && some) {
      const again = await store.settle(claimOf(some), { kind: 'retry', error: boom, dueAtMs: nowMs + 10 }, nowMs);
      if (again?.state === 'queued') held.delete(some.id);
      else endOf(again);
    } else if (die < 92 && all.size > 0) {
      const id = [...all][die % all.size]!;
      const before = await store.get('default', id);
      const after = await store.cancel('default', id, 'dice', nowMs);
      if (before!.state === 'queued') endOf(after);
    }
  }
  for (let turn = 0; turn < 1000 && ended.size < all.size; turn++) {
    nowMs += 20;
    await take(5);
    for (const run of [...held.values()]) endOf(await store.settle(claimOf(run), ok, nowMs));
  }
  expect(ended).toEqual(all);
}
