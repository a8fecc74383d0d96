import { expect, test } from 'vitest';
import { type PumpCall, simulatedPump } from '../../src/example/index.ts';
import type { Clock } from '../../src/flow/clock.ts';

/** A clock on which every wait is over at once, and time passes by it. */
function hastyClock(): Clock {
  let now = 0;
  return {
    now: () => now,
    monotonic: () => now,
    after(ms, run) {
      let live = true;
      queueMicrotask(() => {
        if (!live) return;
        now += ms;
        run();
      });
      return () => {
        live = false;
      };
    },
  };
}

function rig() {
  const events: unknown[] = [];
  const notes: unknown[] = [];
  const stop = new AbortController();
  const call: PumpCall = { signal: stop.signal, progress: (progress) => notes.push(progress.fraction) };
  const pump = simulatedPump({
    clock: hastyClock(),
    random: () => 0.5,
    temperatureEveryMs: 0,
    emit: (type, data) => events.push([type, data]),
  });
  return { pump: pump.service, call, stop, events, notes };
}

test('a start tells progress, reaches its speed and emits the new state', async () => {
  const { pump, call, events, notes } = rig();
  expect(await pump.start({ rpm: 1200 }, call)).toEqual({ rpm: 1200 });
  expect(notes).toEqual([0.25, 0.5, 0.75]);
  expect(events).toEqual([['pump.state', { running: true, rpm: 1200 }]]);
});

test.each([0, -1, 6001, 1.5, Number.NaN])('a start with rpm %s is rejected and changes nothing', async (rpm) => {
  const { pump, call, events } = rig();
  await expect(pump.start({ rpm }, call)).rejects.toMatchObject({
    name: 'CommandRejected',
    code: 'rpm-out-of-range',
    message: `rpm ${rpm} is not within 1 to 6000`,
  });
  expect(events).toEqual([]);
});

test('a cancelled start ends with the reason of its cancel', async () => {
  const { pump, call, stop } = rig();
  const starting = pump.start({ rpm: 100 }, call);
  stop.abort(new Error('not today'));
  await expect(starting).rejects.toThrow('not today');
});

test('a configuration update keeps what it does not set, and the new limit holds', async () => {
  const { pump, call } = rig();
  await pump.configUpdate({ config: { displayName: 'north' } });
  expect(await pump.configUpdate({ config: { maxRpm: 1000 } })).toEqual({
    config: { maxRpm: 1000, maxBar: 8, displayName: 'north' },
  });
  await expect(pump.start({ rpm: 1001 }, call)).rejects.toThrow('rpm 1001 is not within 1 to 1000');
  await expect(pump.configUpdate({ config: { maxBar: 0 } })).rejects.toThrow('maxBar 0');
});

test('a stop tells how long it ran, and 0 when it did not', async () => {
  const { pump, call } = rig();
  expect(await pump.stop()).toEqual({ ranMs: 0 });
  await pump.start({ rpm: 5 }, call);
  expect((await pump.stop()).ranMs).toBe(0);
});

test('the log yields as many lines as asked, numbered onwards, and ends when cancelled', async () => {
  const { pump, call, stop } = rig();
  const numbers: number[] = [];
  for await (const line of pump.tailLog({ lines: 3, intervalMs: 10 }, call)) numbers.push(line.number);
  expect(numbers).toEqual([1, 2, 3]);
  await expect(async () => {
    for await (const line of pump.tailLog({ lines: 100, intervalMs: 10 }, call)) {
      numbers.push(line.number);
      stop.abort(new Error('enough'));
    }
  }).rejects.toThrow('enough');
  expect(numbers).toEqual([1, 2, 3, 4]);
});
