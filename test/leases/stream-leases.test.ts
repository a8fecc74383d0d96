import { describe, expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { type LeaseFact, type LeaseStore, memoryLeaseStore, StreamLeases } from '../../src/leases/index.ts';
import { virtualClock } from '../../src/testing/index.ts';

/** A store that can be away. */
function shakyStore(clock = virtualClock()) {
  const inner = memoryLeaseStore({ clock });
  const at = { away: false, hangs: false, refreshes: 0 };
  const through = <T>(call: () => Promise<T>): Promise<T> => {
    if (at.hangs) return new Promise(() => undefined);
    return at.away ? Promise.reject(new HubError('unavailable', 'the store is away')) : call();
  };
  const store: LeaseStore = {
    acquire: (...args) => through(() => inner.acquire(...args)),
    refresh: (...args) => {
      at.refreshes++;
      return through(() => inner.refresh(...args));
    },
    release: (...args) => through(() => inner.release(...args)),
    list: (...args) => through(() => inner.list(...args)),
    close: () => inner.close(),
  };
  return { clock, store, inner, at };
}

test('a user has five places, for three minutes each, unless told otherwise', async () => {
  const { clock, store } = shakyStore();
  const leases = new StreamLeases({ store, clock, refreshEveryMs: 0 });
  for (let i = 0; i < 5; i++) await leases.acquire('ann');
  expect(await leases.count('ann')).toBe(5);
  expect(await leases.canAcquire('ann')).toBe(false);
  expect(await leases.canAcquire('bob')).toBe(true);
  await expect(leases.acquire('ann')).rejects.toMatchObject({
    code: 'stream-limit-exceeded',
    message: '"ann" has 5 streams open, the limit is 5',
    retryAfterMs: 180_000,
  });
  await clock.advance(179_999);
  expect(await leases.count('ann')).toBe(5);
  await clock.advance(1);
  expect(await leases.count('ann')).toBe(0);
});

test('the same user of two tenants is two users', async () => {
  const leases = new StreamLeases({ limit: 1 });
  await leases.acquire('ann', { tenant: 'a' });
  await leases.acquire('ann', { tenant: 'b' });
  await expect(leases.acquire('ann', { tenant: 'a' })).rejects.toMatchObject({ code: 'stream-limit-exceeded' });
});

test('a place is given back at the end of the work, whatever comes of it', async () => {
  const leases = new StreamLeases({ limit: 1 });
  const result = await leases.withStreamLease('ann', async (lease) => {
    expect(lease.active).toBe(true);
    expect(await leases.canAcquire('ann')).toBe(false);
    return 42;
  });
  expect(result).toBe(42);
  const failing = leases.withStreamLease('ann', () => {
    throw new Error('the work failed');
  });
  await expect(failing).rejects.toThrow('the work failed');
  expect(await leases.count('ann')).toBe(0);
});

test('a lease refreshes itself as long as it is held, and no longer', async () => {
  const { clock, store, at } = shakyStore();
  const leases = new StreamLeases({ store, clock, ttlMs: 3000 });
  const lease = await leases.acquire('ann');
  await clock.advance(60_000);
  expect(lease.active).toBe(true);
  expect(await leases.count('ann')).toBe(1);
  expect(at.refreshes).toBe(60);
  await lease.release();
  await lease.release();
  expect([lease.active, lease.signal.aborted, lease.remainingMs]).toEqual([false, false, 0]);
  await clock.advance(60_000);
  expect(at.refreshes).toBe(60);
  expect(clock.pending).toBe(0);
  expect(await lease.refresh()).toBe(false);
});

test('a lease can be refreshed by hand', async () => {
  const { clock, store } = shakyStore();
  const leases = new StreamLeases({ store, clock, ttlMs: 3000, refreshEveryMs: 0 });
  const lease = await leases.acquire('ann');
  await clock.advance(2000);
  expect(lease.remainingMs).toBe(1000);
  expect(await lease.refresh()).toBe(true);
  expect(lease.remainingMs).toBe(3000);
  await clock.advance(2000);
  expect(await leases.refresh('ann', lease.id)).toBe(true);
  await clock.advance(3000);
  expect(lease.active).toBe(false);
  expect(await leases.refresh('ann', lease.id)).toBe(false);
});

test('the time of a lease counts from before the store was asked, however late its answer comes', async () => {
  const { clock, store } = shakyStore();
  const slow: LeaseStore = {
    ...store,
    acquire: async (...args) => {
      await clock.advance(400);
      return store.acquire(...args);
    },
    refresh: async (...args) => {
      const isHeld = await store.refresh(...args);
      await clock.advance(400);
      return isHeld;
    },
  };
  const leases = new StreamLeases({ store: slow, clock, ttlMs: 3000, refreshEveryMs: 0 });
  const lease = await leases.acquire('ann');
  expect(lease.remainingMs).toBe(2600);
  await lease.refresh();
  expect(lease.remainingMs).toBe(2600);
});

describe('a lease is lost, and its signal says so', () => {
  const facts: LeaseFact[] = [];
  const opened = () => {
    const shaky = shakyStore();
    facts.length = 0;
    const observe = (fact: LeaseFact) => void facts.push(fact);
    return { ...shaky, leases: new StreamLeases({ ...shaky, ttlMs: 3000, observe }) };
  };

  test('when the store does not know it any more', async () => {
    const { clock, inner, leases } = opened();
    const lease = await leases.acquire('ann');
    await inner.release(lease.key, lease.id);
    expect(lease.signal.aborted).toBe(false);
    await clock.advance(1000);
    expect(lease.signal.reason).toMatchObject({ code: 'unavailable' });
    expect(lease.active).toBe(false);
    expect(facts).toMatchObject([{ kind: 'lease-lost', key: 'default/ann', leaseId: lease.id }]);
  });

  test('when somebody ended it by its id, here at once', async () => {
    const { leases } = opened();
    const lease = await leases.acquire('ann');
    expect(await leases.release('ann', lease.id)).toBe(true);
    expect(lease.signal.aborted).toBe(true);
    expect(await leases.release('ann', lease.id)).toBe(false);
  });

  test('when the store is away for longer than it lasts, but not for less', async () => {
    const { clock, at, leases } = opened();
    const lease = await leases.acquire('ann');
    at.away = true;
    await clock.advance(2500);
    expect(lease.active).toBe(true);
    at.away = false;
    await clock.advance(1000);
    expect(lease.remainingMs).toBeGreaterThan(1000);
    at.away = true;
    await clock.advance(3000);
    expect(lease.signal.aborted).toBe(true);
    expect(facts.at(-1)).toMatchObject({ kind: 'lease-lost' });
    expect(facts.filter(({ kind }) => kind === 'lease-store-failed').length).toBeGreaterThanOrEqual(2);
  });

  test('when the store does not answer in time', async () => {
    const { clock, at, leases } = opened();
    const lease = await leases.acquire('ann');
    at.hangs = true;
    await clock.advance(3000);
    expect(lease.signal.aborted).toBe(true);
    expect(clock.pending).toBe(0);
  });

  test('when its process slept for longer than it lasts, before anything else can be done with it', async () => {
    const clock = virtualClock();
    let slept = 0;
    const awake = { ...clock, monotonic: () => clock.monotonic() + slept };
    const leases = new StreamLeases({ clock: awake, ttlMs: 3000 });
    const lease = await leases.acquire('ann');
    slept = 3000;
    // No timer has run yet.
    expect(lease.active).toBe(false);
    expect(lease.signal.aborted).toBe(true);
  });
});

test('a place whose giving back failed is given back as soon as the store can be asked', async () => {
  const { clock, store, inner, at } = shakyStore();
  const leases = new StreamLeases({ store, clock });
  const lease = await leases.acquire('ann');
  at.away = true;
  await lease.release();
  expect(lease.active).toBe(false);
  expect(await inner.list('default/ann')).toHaveLength(1);
  at.away = false;
  await clock.advance(1000);
  expect(await inner.list('default/ann')).toEqual([]);
  expect(clock.pending).toBe(0);
});

test('a place that was given while the answer was lost is given back', async () => {
  const { clock, store, inner } = shakyStore();
  const losing: LeaseStore = {
    ...store,
    acquire: async (...args) => {
      await inner.acquire(...args);
      throw new HubError('unavailable', 'the answer was lost');
    },
  };
  const leases = new StreamLeases({ store: losing, clock });
  await expect(leases.acquire('ann')).rejects.toThrow('the answer was lost');
  await clock.advance(0);
  expect(await inner.list('default/ann')).toEqual([]);
});

test('closing gives back all that is held here, and nothing of others', async () => {
  const { clock, store } = shakyStore();
  const here = new StreamLeases({ store, clock, holder: 'node-a' });
  const there = new StreamLeases({ store, clock, holder: 'node-b' });
  await here.acquire('ann');
  await here.acquire('ann');
  const other = await there.acquire('ann');
  expect((await there.list('ann')).map(({ id }) => id.split(':')[0])).toEqual(['node-a', 'node-a', 'node-b']);
  await here.close();
  expect((await there.list('ann')).map(({ id }) => id)).toEqual([other.id]);
  await expect(here.acquire('ann')).rejects.toMatchObject({ code: 'unavailable' });
});

test.each([
  [{ limit: 0 }, 'limit of 0'],
  [{ limit: Number.NaN }, 'limit of NaN'],
  [{ ttlMs: 0 }, 'ttlMs is 0'],
  [{ ttlMs: 2 ** 31 }, 'ttlMs is 2147483648'],
  [{ ttlMs: 1000, refreshEveryMs: 1000 }, 'refreshEveryMs is 1000'],
  [{ holder: 'a:b' }, '"a:b" cannot name a holder'],
])('options %o are refused', (options, message) => {
  expect(() => new StreamLeases(options)).toThrow(message);
});

test.each(['', 'x'.repeat(257), undefined])('%j is no user', async (userId) => {
  await expect(new StreamLeases().acquire(userId as string)).rejects.toMatchObject({ code: 'invalid-argument' });
});
