import { afterEach, expect, test } from 'vitest';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { grpcTransport } from '../../src/grpc/index.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { submit } from './support/callers.ts';
import { compare } from './support/checker.ts';
import type { CallerLine, EffectLine } from './support/ledger.ts';
import { order } from './support/order.ts';
import { eventually, size } from './support/sizes.ts';

let server: SignalboxServer | undefined;
afterEach(() => server?.close());

const options = {
  grpc: '127.0.0.1:0',
  http: '127.0.0.1:0',
  data: ':memory:',
  logLevel: 'silent',
  drainTimeoutMs: 0,
} as const;
const nowhere = { env: {}, cwd: import.meta.dirname };

test('one id flaps between programs: epochs rise, the old one hears why, nothing is lost or run twice (P8)', {
  timeout: 120_000,
}, async () => {
  const contended = { count: 0 };
  server = await serve(options, {
    sources: nowhere,
    observe: (fact) => {
      if (fact.kind === 'client-contended') contended.count++;
    },
  });
  const address = server.grpc[0]!;
  const callers: CallerLine[] = [];
  const effects: EffectLine[] = [];
  const ledger = { write: (line: CallerLine) => void callers.push(line), close: () => undefined };
  const transport = grpcTransport({ address });
  const flaps = size(200, 2000);
  const epochs: number[] = [];
  const ends: Promise<string>[] = [];
  const reasons: string[] = [];
  const reasonTookMs: number[] = [];
  let old: Device | undefined;
  for (let i = 0; i < flaps; i++) {
    const device = await connectDevice({
      address,
      clientId: 'contended',
      backoff: { minMs: 60_000, maxMs: 60_000 },
      observe: (fact) => {
        if (fact.kind === 'stream-ended') reasons.push(fact.reason);
      },
    });
    device.handle(
      order,
      ({ content, orderingKey }, { commandId }) => {
        effects.push({ id: commandId, clientId: 'contended', content, orderingKey, boot: String(i) });
        return { content, orderingKey };
      },
      { result: order },
    );
    if (device.state.kind === 'connected') epochs.push(device.state.epoch);
    for (let n = 0; n < 3; n++)
      ends.push(submit(transport, ledger, { clientId: 'contended', content: `${i}-${n}` }).ended);
    if (old) {
      const since = performance.now();
      await eventually('the old stream hears that it was taken over', () => reasons.length >= i);
      reasonTookMs.push(performance.now() - since);
      await old.close({ timeoutMs: 0 });
    }
    old = device;
  }
  await Promise.all(ends);
  const verdict = compare(callers, effects);
  expect(verdict.broken).toEqual([]);
  expect(verdict.accepted).toBe(3 * flaps);
  expect(epochs).toHaveLength(flaps);
  expect(epochs.every((epoch, i) => i === 0 || epoch > epochs[i - 1]!)).toBe(true);
  expect(reasons.filter((reason) => /took over/.test(reason))).toHaveLength(flaps - 1);
  expect(contended.count).toBeGreaterThan(0);
  // Each within a second; a machine that is busy elsewhere may miss it for a few of them.
  const late = reasonTookMs.filter((ms) => ms > 1000);
  expect(late.length, `${late.map(Math.round)} ms`).toBeLessThanOrEqual(size(flaps / 20, 0));
  await old?.close({ timeoutMs: 0 });
  await transport.close();
});

test('more commands than fit are refused before they are accepted, with a time to come back, and the rest ends well (P11)', async () => {
  server = await serve({ ...options, mailboxCommands: 100, waitingCommands: 20, window: 4 }, { sources: nowhere });
  const address = server.grpc[0]!;
  const callers: CallerLine[] = [];
  const effects: EffectLine[] = [];
  const ledger = { write: (line: CallerLine) => void callers.push(line), close: () => undefined };
  const transport = grpcTransport({ address });
  // Three times what a mailbox holds, to a client that is away.
  const queued = Array.from({ length: 300 }, (_, i) =>
    submit(transport, ledger, { clientId: 'busy', content: `queued ${i}` }),
  );
  await Promise.all(queued.map(({ accepted }) => accepted));
  const refused = callers.filter((line) => line.kind === 'refused');
  expect(refused).toHaveLength(200);
  expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['mailbox-full']));
  const rejection = await transport
    .send((await import('../../src/testing/index.ts')).testCommand({ clientId: 'busy', whenOffline: 'queue' }))
    [Symbol.asyncIterator]()
    .next()
    .catch((error: unknown) => error);
  expect(rejection).toMatchObject({ code: 'mailbox-full', retryAfterMs: 1000 });

  const device = await connectDevice({ address, clientId: 'busy', concurrency: 4 });
  let isOpen = false;
  device.handle(
    order,
    async ({ content, orderingKey }, { commandId }) => {
      while (!isOpen && !content.startsWith('queued')) await new Promise((resolve) => setTimeout(resolve, 10));
      effects.push({ id: commandId, clientId: 'busy', content, orderingKey, boot: '1' });
      return { content, orderingKey };
    },
    { result: order },
  );
  await Promise.all(queued.map(({ ended }) => ended));
  // And live ones, while the device is at work and takes no more.
  const live = Array.from({ length: 72 }, (_, i) =>
    submit(transport, ledger, { clientId: 'busy', content: `live ${i}`, live: true }),
  );
  await Promise.all(live.map(({ accepted }) => accepted));
  isOpen = true;
  const outcomes = await Promise.all(live.map(({ ended }) => ended));
  expect(outcomes.filter((outcome) => outcome === 'succeeded')).toHaveLength(24);
  expect(outcomes.filter((outcome) => outcome === 'unavailable')).toHaveLength(48);
  // All is well at once afterwards.
  expect(await submit(transport, ledger, { clientId: 'busy', content: 'live after', live: true }).ended).toBe(
    'succeeded',
  );
  expect(compare(callers, effects).broken).toEqual([]);
  await device.close({ timeoutMs: 1000 });
  await transport.close();
});
