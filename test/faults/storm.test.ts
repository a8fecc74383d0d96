import { expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { isTerminalUpdate } from '../../src/protocol/command.ts';
import { type SimulatedWorld, simulate, testCommand } from '../../src/testing/index.ts';
import { compare } from './support/checker.ts';
import type { CallerLine, EffectLine } from './support/ledger.ts';
import { order } from './support/order.ts';
import { dice, size } from './support/sizes.ts';

/** One simulated storm: live and queued commands, cancels, cut links, restarted devices, lost journals, killed hubs. */
async function storm(seed: number): Promise<{ callers: CallerLine[]; effects: EffectLine[]; hubs: number }> {
  const callers: CallerLine[] = [];
  const effects: EffectLine[] = [];
  let world: SimulatedWorld | undefined;
  const { trace } = await simulate({
    seed,
    cutEveryMs: 300,
    restartDeviceEveryMs: 1500,
    killHubEveryMs: 1500,
    hub: { window: 1 + (seed % 5), resultWaitMs: 20_000, resumeWindowMs: 2000 },
    boot: (device, clientId) =>
      device.handle(
        order,
        async ({ content, orderingKey }, { commandId, signal, progress }) => {
          effects.push({ id: commandId, clientId, content, orderingKey, boot: '' });
          progress({ fraction: 0.5 });
          await world?.sleep(20);
          if (signal.aborted) throw new Error('stopped');
          return { content, orderingKey };
        },
        { result: order },
      ),
    run: async (running) => {
      world = running;
      const { random, transport, sleep } = running;
      const all: Promise<void>[] = [];
      const send = async (number: number): Promise<void> => {
        const clientId = `device-${number % 3}`;
        const queued = random() < 0.7;
        const idempotent = random() < 0.2;
        const orderingKey = random() < 0.5 ? 'a' : 'b';
        const content = String(number);
        const command = testCommand({
          clientId,
          whenOffline: queued ? 'queue' : 'fail',
          waitForConnectMs: queued ? 0 : 5000,
          timeoutMs: queued ? 0 : 20_000,
          ttlMs: queued ? 600_000 : 0,
          orderingKey,
          idempotent,
          payload: { type: order.type, value: order.encode({ content, orderingKey }) },
        });
        const { id } = command;
        callers.push({ kind: 'submitted', id, clientId, content, orderingKey, idempotent });
        const abort = new AbortController();
        if (random() < 0.1) void sleep(100 * random()).then(() => abort.abort());
        let isAccepted = false;
        try {
          for await (const update of transport.send(command, { signal: abort.signal })) {
            // A live command dies with its hub, and is promised nothing beyond that.
            if (!isAccepted && queued) callers.push({ kind: 'accepted', id, as: id });
            isAccepted = true;
            if (isTerminalUpdate(update)) callers.push({ kind: 'ended', id, as: id, state: update.state });
          }
        } catch (error) {
          const { code, message } = toHubError(error);
          callers.push({ kind: 'refused', id, code, message });
        }
      };
      for (let i = 0; i < 100; i++) {
        all.push(send(i));
        await sleep(80 * random());
        if (random() < 0.01) void running.devices[i % 3]!.restart({ losesJournal: true });
      }
      await sleep(3000);
      running.calm();
      await Promise.all(all);
    },
  });
  return { callers, effects, hubs: trace.filter((line) => line.includes('the hub is killed')).length };
}

test('in simulated storms nothing accepted is lost, nothing runs twice, and the order holds (P1-P4, P6)', {
  timeout: size(300_000, 1_200_000),
}, async () => {
  const { seed: first } = dice();
  let hubs = 0;
  for (let i = 0; i < size(300, 10_000); i++) {
    const { callers, effects, hubs: killed } = await storm(first + i);
    hubs += killed;
    const { broken } = compare(callers, effects);
    expect(broken, `seed ${first + i}`).toEqual([]);
  }
  expect(hubs).toBeGreaterThan(300);
});
