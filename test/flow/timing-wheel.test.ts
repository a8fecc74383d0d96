import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Alarm, TimingWheel } from '../../src/flow/timing-wheel.ts';
import { virtualClock } from '../../src/testing/index.ts';

test('alarms ring once, never early, and at most a tick late, whatever is set, moved and cleared', async () => {
  const operation = fc.record({
    alarm: fc.nat(9),
    kind: fc.constantFrom('set', 'set', 'set', 'clear', 'wait'),
    ms: fc.integer({ min: 0, max: 3000 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
      const clock = virtualClock();
      const wheel = new TimingWheel({ clock, tickMs: 10, slots: 16 });
      const due = new Map<number, number>();
      const faults: string[] = [];
      const alarms = Array.from({ length: 10 }, (_, i) => {
        return new Alarm(() => {
          const at = due.get(i);
          const now = clock.monotonic();
          if (at === undefined) faults.push(`${i} rang and was not set`);
          else if (now < at || now > at + 20) faults.push(`${i} was due at ${at} and rang at ${now}`);
          due.delete(i);
        });
      });
      for (const { alarm, kind, ms } of operations) {
        if (kind === 'set') {
          wheel.set(alarms[alarm]!, ms);
          due.set(alarm, clock.monotonic() + ms);
        } else if (kind === 'clear') {
          wheel.clear(alarms[alarm]!);
          due.delete(alarm);
        } else await clock.advance(ms);
        expect(wheel.size).toBe(due.size);
      }
      await clock.advance(3100);
      expect(faults).toEqual([]);
      expect(due.size).toBe(0);
      expect(clock.pending).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test('an alarm may set and clear others while it rings', async () => {
  const clock = virtualClock();
  const wheel = new TimingWheel({ clock });
  const rung: string[] = [];
  const second = new Alarm(() => rung.push('second'));
  const third = new Alarm(() => rung.push('third'));
  const first = new Alarm(() => {
    rung.push('first');
    wheel.clear(second);
    wheel.set(third, 0);
  });
  wheel.set(first, 100);
  wheel.set(second, 100);
  await clock.advance(300);
  expect(rung).toEqual(['first', 'third']);
  wheel.close();
});
