import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { LeaseStore } from '../../src/leases/lease-store.ts';

export interface OpenedLeaseStore {
  readonly store: LeaseStore;
  /** Lets at least so much time pass for the store. */
  pass(ms: number): Promise<void>;
  /** True where time stands still but for `pass`. */
  readonly isTimeless: boolean;
  close(): Promise<void>;
}

const long = 60_000;
const short = 40;

/** What every `LeaseStore` has to do. `open` makes an empty one. */
export function leaseStoreContract(name: string, open: () => Promise<OpenedLeaseStore>): void {
  describe(`LeaseStore: ${name}`, () => {
    const closers: (() => Promise<void>)[] = [];
    const opened = async () => {
      const each = await open();
      closers.push(each.close);
      return each;
    };
    const ids = async (store: LeaseStore, key: string) => (await store.list(key)).map(({ id }) => id);
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });

    test('as many leases are granted as there are places, for each key by itself', async () => {
      const { store } = await opened();
      const take = (key: string, id: string) => store.acquire(key, id, { limit: 2, ttlMs: long });
      expect(await take('t/ann', 'a')).toEqual({ kind: 'granted' });
      expect(await take('t/ann', 'b')).toEqual({ kind: 'granted' });
      expect(await take('t/ann', 'c')).toMatchObject({ kind: 'refused', held: 2 });
      expect(await take('t/bob', 'c')).toEqual({ kind: 'granted' });
      expect((await ids(store, 't/ann')).sort()).toEqual(['a', 'b']);
      expect(await ids(store, 't/nobody')).toEqual([]);
    });

    test('of many who ask at once only as many get a place as there are', async () => {
      const { store } = await opened();
      const asked = Array.from({ length: 50 }, (_, i) => store.acquire('t/ann', `l${i}`, { limit: 5, ttlMs: long }));
      const granted = (await Promise.all(asked)).filter(({ kind }) => kind === 'granted');
      expect(granted).toHaveLength(5);
      expect(await store.list('t/ann')).toHaveLength(5);
    });

    test('a refused one is told when the first place is free at the latest', async () => {
      const { store } = await opened();
      await store.acquire('t/ann', 'late', { limit: 3, ttlMs: 3 * long });
      await store.acquire('t/ann', 'soon', { limit: 3, ttlMs: long });
      await store.acquire('t/ann', 'later', { limit: 3, ttlMs: 2 * long });
      const refused = await store.acquire('t/ann', 'x', { limit: 3, ttlMs: long });
      if (refused.kind !== 'refused') throw new Error('it was granted');
      expect(refused.retryAfterMs).toBeGreaterThan(0);
      expect(refused.retryAfterMs).toBeLessThanOrEqual(long);
      // With a smaller limit more than one has to end first.
      const smaller = await store.acquire('t/ann', 'x', { limit: 2, ttlMs: long });
      if (smaller.kind !== 'refused') throw new Error('it was granted');
      expect(smaller.held).toBe(3);
      expect(smaller.retryAfterMs).toBeGreaterThan(long);
      expect(smaller.retryAfterMs).toBeLessThanOrEqual(2 * long);
    });

    test('a place that is given back is free at once', async () => {
      const { store } = await opened();
      await store.acquire('t/ann', 'a', { limit: 1, ttlMs: long });
      expect(await store.release('t/ann', 'a')).toBe(true);
      expect(await store.release('t/ann', 'a')).toBe(false);
      expect(await store.release('t/nobody', 'a')).toBe(false);
      expect(await store.acquire('t/ann', 'b', { limit: 1, ttlMs: long })).toEqual({ kind: 'granted' });
    });

    test('to ask again with the same id, as after a lost answer, takes no second place', async () => {
      const { store, pass } = await opened();
      await store.acquire('t/ann', 'a', { limit: 2, ttlMs: short });
      expect(await store.acquire('t/ann', 'a', { limit: 2, ttlMs: long })).toEqual({ kind: 'granted' });
      await pass(short);
      const leases = await store.list('t/ann');
      expect(leases.map(({ id }) => id)).toEqual(['a']);
      expect(leases[0]!.endsInMs).toBeGreaterThan(short);
      // Also where all places are taken: it has one of them.
      await store.acquire('t/ann', 'b', { limit: 2, ttlMs: long });
      expect(await store.acquire('t/ann', 'a', { limit: 2, ttlMs: long })).toEqual({ kind: 'granted' });
    });

    test('a lease that nobody refreshes ends, and its place is free', async () => {
      const { store, pass } = await opened();
      await store.acquire('t/ann', 'dead', { limit: 2, ttlMs: short });
      await store.acquire('t/ann', 'alive', { limit: 2, ttlMs: long });
      await pass(short);
      expect(await ids(store, 't/ann')).toEqual(['alive']);
      expect(await store.acquire('t/ann', 'next', { limit: 2, ttlMs: long })).toEqual({ kind: 'granted' });
    });

    test('a refreshed lease lasts from then on; one that has ended does not come back', async () => {
      const { store, pass } = await opened();
      await store.acquire('t/ann', 'a', { limit: 2, ttlMs: long });
      expect(await store.refresh('t/ann', 'a', 2 * long)).toBe(true);
      expect((await store.list('t/ann'))[0]!.endsInMs).toBeGreaterThan(long);
      expect(await store.refresh('t/ann', 'a', short)).toBe(true);
      await pass(short);
      expect(await store.refresh('t/ann', 'a', long)).toBe(false);
      expect(await store.refresh('t/nobody', 'a', long)).toBe(false);
      expect(await ids(store, 't/ann')).toEqual([]);
    });

    test('the list says how long each lasts, the one that ends first first', async () => {
      const { store } = await opened();
      await store.acquire('t/ann', 'later', { limit: 5, ttlMs: 2 * long });
      await store.acquire('t/ann', 'soon', { limit: 5, ttlMs: long });
      const leases = await store.list('t/ann');
      expect(leases.map(({ id }) => id)).toEqual(['soon', 'later']);
      expect(leases[0]!.endsInMs).toBeGreaterThan(0);
      expect(leases[0]!.endsInMs).toBeLessThanOrEqual(long);
    });

    test('keys and ids are any text, and none is taken for another', async () => {
      const { store } = await opened();
      const odd = ['t/a b', 't/a', 't/{a}', 't/ä\n\0', 't/a:b', "t/a'b", 't/*'];
      for (const key of odd)
        expect(await store.acquire(key, key, { limit: 1, ttlMs: long })).toEqual({ kind: 'granted' });
      for (const key of odd) expect(await ids(store, key)).toEqual([key]);
    });

    test('any history of calls agrees with the model', async () => {
      const key = fc.constantFrom('t/ann', 't/bob');
      const id = fc.constantFrom('a', 'b', 'c', 'd');
      const { isTimeless } = await opened();
      const ttlMs = isTimeless ? fc.constantFrom(10, 20, 50) : fc.constantFrom(long, 2 * long);
      const acquire = fc.record({
        op: fc.constant('acquire' as const),
        key,
        id,
        limit: fc.integer({ min: 1, max: 3 }),
        ttlMs,
      });
      const refresh = fc.record({ op: fc.constant('refresh' as const), key, id, ttlMs });
      const release = fc.record({ op: fc.constant('release' as const), key, id });
      const pass = fc.record({
        op: fc.constant('pass' as const),
        ms: fc.integer({ min: 1, max: isTimeless ? 25 : 1 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(fc.oneof(acquire, refresh, release, pass), { maxLength: 40 }), async (steps) => {
          const at = await open();
          try {
            const model = new Map<string, Map<string, number>>();
            let now = 0;
            const alive = (of: string) => {
              const leases = model.get(of) ?? new Map<string, number>();
              for (const [each, end] of leases) if (end <= now) leases.delete(each);
              model.set(of, leases);
              return leases;
            };
            for (const step of steps) {
              if (step.op === 'pass') {
                await at.pass(step.ms);
                if (isTimeless) now += step.ms;
                continue;
              }
              const leases = alive(step.key);
              const has = leases.has(step.id);
              if (step.op === 'acquire') {
                const isFree = has || leases.size < step.limit;
                const got = await at.store.acquire(step.key, step.id, step);
                expect(got.kind).toBe(isFree ? 'granted' : 'refused');
                if (isFree) leases.set(step.id, now + step.ttlMs);
                else if (isTimeless) {
                  const ends = [...leases.values()].sort((a, b) => a - b);
                  expect(got).toEqual({
                    kind: 'refused',
                    held: leases.size,
                    retryAfterMs: ends[leases.size - step.limit]! - now,
                  });
                }
              } else if (step.op === 'refresh') {
                expect(await at.store.refresh(step.key, step.id, step.ttlMs)).toBe(has);
                if (has) leases.set(step.id, now + step.ttlMs);
              } else {
                expect(await at.store.release(step.key, step.id)).toBe(has);
                leases.delete(step.id);
              }
              expect((await ids(at.store, step.key)).sort()).toEqual([...alive(step.key).keys()].sort());
            }
          } finally {
            await at.close();
          }
        }),
        { numRuns: 20 },
      );
    });

    test('a closed store refuses', async () => {
      const { store, close } = await open();
      await close();
      await expect(store.acquire('t/ann', 'a', { limit: 1, ttlMs: long })).rejects.toMatchObject({
        code: 'unavailable',
      });
      await expect(store.list('t/ann')).rejects.toMatchObject({ code: 'unavailable' });
    });
  });
}
