import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { toHubError } from '../../src/errors.ts';
import { grpcTransport } from '../../src/grpc/index.ts';
import { serve } from '../../src/server/index.ts';
import { testCommand } from '../../src/testing/index.ts';
import { order } from './support/order.ts';
import { eventually, figures, isFull, size, sleep } from './support/sizes.ts';

/** Commands that the device does at a time. */
const concurrency = 4;

interface Refusal {
  readonly code: string;
  readonly retryAfterMs: number | undefined;
  readonly wasAccepted: boolean;
}

/** A hub, a device that does each order by `work`, and callers of it. */
async function setUp(work: () => Promise<void>) {
  const server = await serve(
    { grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'silent', waitingCommands: 20, window: 4 },
    { sources: { env: {}, cwd: import.meta.dirname } },
  );
  const address = server.grpc[0]!;
  const device = await connectDevice({ address, clientId: 'busy', concurrency });
  const transport = grpcTransport({ address });
  onTestFinished(async () => {
    await transport.close();
    await device.close({ timeoutMs: 0 });
    await server.close();
  });
  device.handle(order, work);

  const refusals: Refusal[] = [];
  /** One command; whether it was done. `onAnswer`: it is accepted (true) or refused. */
  const one = async (onAnswer: (isAccepted: boolean) => void = () => undefined): Promise<boolean> => {
    let wasAccepted = false;
    try {
      const payload = { type: order.type, value: order.encode({ content: '', orderingKey: '' }) };
      for await (const { state } of transport.send(testCommand({ clientId: 'busy', payload, timeoutMs: 60_000 }))) {
        wasAccepted = true;
        onAnswer(true);
        if (state === 'succeeded') return true;
      }
    } catch (error) {
      const { code, retryAfterMs } = toHubError(error);
      refusals.push({ code, retryAfterMs, wasAccepted });
      onAnswer(false);
    }
    return false;
  };
  return { refusals, one };
}

function expectHonest(refusals: readonly Refusal[]): void {
  expect(refusals.length).toBeGreaterThan(100);
  expect(new Set(refusals.map(({ code }) => code))).toEqual(new Set(['unavailable']));
  expect(refusals.filter(({ retryAfterMs, wasAccepted }) => wasAccepted || !(retryAfterMs! > 0))).toEqual([]);
}

/**
 * By count, as a busy machine takes its time from the device and from the hub alike: the device's time is its rounds, in
 * each of which it does all that it has in hand. A hub that falls over what it refuses leaves it less than it can do.
 */
test('three times as many commands as a device can do: it is kept as busy as before, what is too much is refused in time, and all is well afterwards (P11)', {
  timeout: size(300_000, 300_000),
}, async () => {
  const inHand: (() => void)[] = [];
  const { refusals, one } = await setUp(() => new Promise((resolve) => inHand.push(resolve)));
  let accepted = 0;
  let done = 0;
  const ends: Promise<boolean>[] = [];
  /** So many more commands; resolves when each has been answered. */
  const send = (count: number): Promise<unknown> =>
    Promise.all(
      Array.from(
        { length: count },
        () =>
          new Promise<void>((resolve) => {
            let isAnswered = false;
            const end = one((isAccepted) => {
              if (isAnswered) return;
              isAnswered = true;
              if (isAccepted) accepted++;
              resolve();
            });
            ends.push(end);
          }),
      ),
    );
  /** The device does what it has, once it has all that it can take of what was accepted; tells how much that is. */
  const round = async (): Promise<number> => {
    const due = Math.min(concurrency, accepted - done);
    await eventually(`the device has ${due} commands`, () => inHand.length >= due);
    const doing = inHand.splice(0);
    for (const finish of doing) finish();
    done += doing.length;
    return doing.length;
  };

  const rounds = size(60, 500);
  for (let n = 0; n < rounds; n++) {
    await send(3 * concurrency);
    await round();
  }
  figures(`${done} commands done in ${rounds} rounds of ${concurrency}, ${refusals.length} refused`);
  expect(done).toBeGreaterThanOrEqual(0.8 * concurrency * rounds);
  expectHonest(refusals);

  while (done < accepted) await round();
  expect((await Promise.all(ends)).filter(Boolean)).toHaveLength(accepted);
  const refusedBefore = refusals.length;
  for (let n = 0; n < 10; n++) {
    await send(concurrency);
    expect(await round()).toBe(concurrency);
  }
  await Promise.all(ends);
  expect(refusals.length, 'refusals once the load is gone').toBe(refusedBefore);
});

/** What one command takes: 200 a second, whatever the machine is. */
const workMs = 20;

test.runIf(isFull)('the same by the clock (P11)', { timeout: 300_000 }, async () => {
  const { refusals, one } = await setUp(() => sleep(workMs));
  /** Commands done in a second, by as many callers as keep the device busy. */
  const goodput = async (ms: number): Promise<number> => {
    const since = performance.now();
    let done = 0;
    const caller = async (): Promise<void> => {
      while (performance.now() - since < ms) if (await one()) done++;
    };
    await Promise.all(Array.from({ length: 2 * concurrency }, caller));
    return (done * 1000) / (performance.now() - since);
  };
  /** The same while three times as many come, whether or not they are refused. */
  const underLoad = async (ms: number, aSecond: number): Promise<number> => {
    const since = performance.now();
    const all: Promise<boolean>[] = [];
    for (let spent = 0; spent < ms; spent = performance.now() - since) {
      while (all.length < (spent * aSecond) / 1000) all.push(one());
      await sleep(5);
    }
    const done = (await Promise.all(all)).filter(Boolean).length;
    return (done * 1000) / (performance.now() - since);
  };

  await goodput(500); // all is warm
  const peak = await goodput(10_000);
  const loaded = await underLoad(30_000, 3 * peak);
  figures(`goodput: ${Math.round(peak)}/s at its peak, ${Math.round(loaded)}/s under three times as much`);
  expect(loaded).toBeGreaterThan(0.8 * peak);
  expectHonest(refusals);
  const refusedBefore = refusals.length;
  await eventually('it is as good as before', async () => (await goodput(500)) > 0.8 * peak, 10_000);
  expect(refusals.length, 'refusals once the load is gone').toBe(refusedBefore);
});
