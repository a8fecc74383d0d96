import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { toHubError } from '../../src/errors.ts';
import { grpcTransport } from '../../src/grpc/index.ts';
import { serve } from '../../src/server/index.ts';
import { testCommand } from '../../src/testing/index.ts';
import { order } from './support/order.ts';
import { eventually, figures, size, sleep } from './support/sizes.ts';

/** What one command takes, and how many run at once: 200 a second, whatever the machine is. */
const [workMs, concurrency] = [20, 4];

test('three times as many commands as a device can do: they are refused in time, the rest goes on, and all is well afterwards (P11)', {
  timeout: size(120_000, 300_000),
}, async () => {
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
  device.handle(order, () => sleep(workMs));

  const refusals: { code: string; retryAfterMs: number | undefined; wasAccepted: boolean }[] = [];
  const one = async (): Promise<boolean> => {
    let wasAccepted = false;
    try {
      const payload = { type: order.type, value: order.encode({ content: '', orderingKey: '' }) };
      for await (const { state } of transport.send(testCommand({ clientId: 'busy', payload, timeoutMs: 30_000 }))) {
        wasAccepted = true;
        if (state === 'succeeded') return true;
      }
    } catch (error) {
      const { code, retryAfterMs } = toHubError(error);
      refusals.push({ code, retryAfterMs, wasAccepted });
    }
    return false;
  };
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
  const peak = await goodput(size(2000, 10_000));
  const loaded = await underLoad(size(4000, 30_000), 3 * peak);
  figures(`goodput: ${Math.round(peak)}/s at its peak, ${Math.round(loaded)}/s under three times as much`);
  // Of the table: 80 %. A noisy machine may lose more to itself.
  expect(loaded).toBeGreaterThan(size(0.25, 0.8) * peak);
  expect(refusals.length).toBeGreaterThan(100);
  expect(new Set(refusals.map(({ code }) => code))).toEqual(new Set(['unavailable']));
  expect(refusals.filter(({ retryAfterMs, wasAccepted }) => wasAccepted || !(retryAfterMs! > 0))).toEqual([]);
  const refusedBefore = refusals.length;
  await eventually('it is as good as before', async () => (await goodput(500)) > 0.8 * peak, size(30_000, 10_000));
  expect(refusals.length, 'refusals once the load is gone').toBe(refusedBefore);
});
