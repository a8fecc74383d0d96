import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Clock } from '../../src/flow/clock.ts';
import { type LeaseStore, memoryLeaseStore, StreamLeases } from '../../src/leases/index.ts';
import type { Lease } from '../../src/leases/lease.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/index.ts';

const ttlMs = 1000;
const limit = 1;

/** A process with a wrong clock, a slow road to the store, and a life that somebody else decides on. */
class Process {
  readonly leases: StreamLeases;
  readonly held: Lease[] = [];
  state: 'runs' | 'stopped' | 'dead' = 'runs';
  /** How long a call takes to the store, and its answer back, from now on. */
  roadMs: readonly [there: number, back: number] = [0, 0];
  readonly #time: VirtualClock;
  /** What would have happened while it was stopped. */
  #missed: (() => void)[] = [];

  constructor(time: VirtualClock, store: LeaseStore, skewMs: number) {
    this.#time = time;
    const clock: Clock = {
      now: () => time.now() + skewMs,
      monotonic: () => time.monotonic() + 1e9 + skewMs,
      after: (ms, run) => time.after(ms, () => this.#whenAwake(run)),
    };
    const over = async <T>(call: () => Promise<T>): Promise<T> => {
      const [there, back] = this.roadMs;
      await this.#pass(there);
      // A request that is on its way arrives, whatever becomes of its sender.
      const answer = await call();
      await this.#pass(back);
      await new Promise<void>((resolve) => this.#whenAwake(resolve));
      return answer;
    };
    this.leases = new StreamLeases({
      limit,
      ttlMs,
      clock,
      store: {
        acquire: (...args) => over(() => store.acquire(...args)),
        refresh: (...args) => over(() => store.refresh(...args)),
        release: (...args) => over(() => store.release(...args)),
        list: (...args) => over(() => store.list(...args)),
        close: () => Promise.resolve(),
      },
    });
  }

  /** Leases that it would act on now. */
  get active(): number {
    return this.state === 'runs' ? this.held.filter(({ active }) => active).length : 0;
  }

  acquire(): void {
    if (this.state !== 'runs') return;
    this.leases.acquire('ann').then(
      (lease) => this.held.push(lease),
      (error) => expect(['stream-limit-exceeded', 'unavailable']).toContain(error.code),
    );
  }

  release(which: number): void {
    if (this.state === 'runs') void this.held[which % Math.max(1, this.held.length)]?.release();
  }

  resume(): void {
    if (this.state !== 'stopped') return;
    this.state = 'runs';
    for (const run of this.#missed.splice(0)) run();
  }

  #whenAwake(run: () => void): void {
    if (this.state === 'runs') run();
    else if (this.state === 'stopped') this.#missed.push(run);
  }

  #pass(ms: number): Promise<void> {
    return ms === 0 ? Promise.resolve() : new Promise((resolve) => this.#time.after(ms, resolve));
  }
}

const who = fc.nat(2);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('acquire' as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), who, which: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('stop' as const, 'resume' as const), who }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('kill' as const), who }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('road' as const),
      who,
      ms: fc.tuple(fc.constantFrom(0, 40, 300, 1500), fc.constantFrom(0, 40, 300, 1500)),
    }),
  },
);
const pause = fc.constantFrom(0, 1, 50, 333, 334, 999, 1000, 1001, 2500);

test('there are never more leases than places, whoever is killed, stopped, slow, or wrong about the time', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(step, pause), { minLength: 10, maxLength: 40 }),
      fc.array(fc.integer({ min: -1e10, max: 1e10 }), { minLength: 3, maxLength: 3 }),
      async (steps, skews) => {
        const time = virtualClock();
        const store = memoryLeaseStore({ clock: time });
        const processes = skews.map((skewMs) => new Process(time, store, skewMs));
        const check = () => {
          const active = processes.reduce((sum, each) => sum + each.active, 0);
          expect(active, 'leases that somebody would act on').toBeLessThanOrEqual(limit);
        };
        for (const [action, thenMs] of steps) {
          const process = processes[action.who]!;
          if (action.do === 'acquire') process.acquire();
          else if (action.do === 'release') process.release(action.which);
          else if (action.do === 'resume') process.resume();
          else if (action.do === 'road') process.roadMs = action.ms;
          else if (process.state !== 'dead') process.state = action.do === 'stop' ? 'stopped' : 'dead';
          check();
          // At every moment at which something could change, and right before and after it.
          for (let left = thenMs; left > 0; ) {
            const part = Math.min(left, 167);
            await time.advance(part);
            check();
            left -= part;
          }
        }
        // What the dead and the stopped held is free after its time.
        for (const process of processes) process.state = 'dead';
        await time.advance(4000 + ttlMs);
        expect(await store.list('default/ann')).toEqual([]);
        const late = new StreamLeases({ store, limit, ttlMs, clock: time });
        await late.acquire('ann');
        await late.close();
      },
    ),
    { numRuns: 500 },
  );
});
