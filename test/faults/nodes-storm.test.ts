import { expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { type CommandUpdate, isTerminalUpdate } from '../../src/protocol/command.ts';
import { seededRandom, testCommand, virtualClock } from '../../src/testing/index.ts';
import { simulatedDevice } from '../../src/testing/simulated-device.ts';
import { compare } from './support/checker.ts';
import type { CallerLine, EffectLine } from './support/ledger.ts';
import { order } from './support/order.ts';
import { type SimulatedNode, SimulatedNodes } from './support/simulated-nodes.ts';
import { dice, figures, size } from './support/sizes.ts';

const clients = ['device-0', 'device-1', 'device-2'];

/** Three nodes on a clock that stands still: they are killed and cut off from Redis, devices flap, callers change nodes. */
async function storm(seed: number, perClient: number) {
  const random = seededRandom(seed);
  const clock = virtualClock();
  const callers: CallerLine[] = [];
  const effects: EffectLine[] = [];
  const happened = { killed: 0, cutOff: 0, cut: 0, restarted: 0 };
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => void clock.after(ms, resolve));
  const settled = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const done = work.finally(() => {
      isOver = true;
    });
    done.catch(() => undefined); // awaited below
    for (let turns = 0; !isOver && turns < 100_000; turns++) await clock.advance(5);
    if (!isOver) throw new Error(`the storm with seed ${seed} did not end`);
    return done;
  };
  const cluster = new SimulatedNodes(clock, random, { window: 1 + (seed % 5), resumeWindowMs: 2000, ping: 'off' });
  const nodes: SimulatedNode[] = await settled(Promise.all(['a', 'b', 'c'].map((id) => cluster.start(id))));
  const any = <T>(some: readonly T[]): T => some[Math.floor(random() * some.length)]!;
  /** Where each device was seen last. */
  const at = new Map<string, SimulatedNode>();
  const devices = await settled(
    Promise.all(
      clients.map((clientId) =>
        simulatedDevice(clientId, {
          clock,
          random,
          latencyMs: [1, 20],
          hub: () => {
            const node = any(nodes);
            at.set(clientId, node);
            return node.isDead ? undefined : node.hub;
          },
          boot: (device) =>
            device.handle(
              order,
              async ({ content, orderingKey }, { commandId }) => {
                effects.push({ id: commandId, clientId, content, orderingKey, boot: '' });
                await sleep(20);
                return { content, orderingKey };
              },
              { result: order },
            ),
          note: () => undefined,
        }),
      ),
    ),
  );

  let isCalm = false;
  const accidents = async (): Promise<void> => {
    while (!isCalm) {
      await sleep(-Math.log(1 - random()) * 250);
      const what = random();
      const which = Math.floor(random() * nodes.length);
      const node = nodes[which]!;
      if (node.isDead) continue;
      if (what < 0.15) {
        happened.killed++;
        node.kill();
        for (const [i, clientId] of clients.entries()) if (at.get(clientId) === node) devices[i]!.cut();
        void sleep(1500 * random()).then(async () => {
          nodes[which] = await cluster.start(node.id);
        });
      } else if (what < 0.4) {
        happened.cutOff++;
        const heal = node.cutOff();
        void sleep(3000 * random()).then(heal);
      } else if (what < 0.9) {
        happened.cut++;
        any(devices).cut();
      } else {
        happened.restarted++;
        void any(devices).restart();
      }
    }
  };

  const send = (clientId: string, number: number) => {
    const content = String(number);
    const value = order.encode({ content, orderingKey: 'one' });
    const payload = { type: order.type, value };
    const command = testCommand({ clientId, whenOffline: 'queue', timeoutMs: 0, ttlMs: 3_600_000, payload });
    const { id } = command;
    callers.push({ kind: 'submitted', id, clientId, content, orderingKey: 'one', idempotent: false });
    const accepted = Promise.withResolvers<void>();
    /** By way of one node, until that fails, dies or says nothing for too long. */
    const attempt = async (isFirst: boolean): Promise<boolean> => {
      const node = any(nodes);
      const isWatching = !isFirst && random() < 0.5;
      const updates = isWatching ? node.road.watch('default', id, { clientId }) : node.road.send(command);
      const source = updates[Symbol.asyncIterator]();
      const patience = 500 + 5000 * random();
      for (;;) {
        const next = source.next();
        next.catch(() => undefined);
        const step = await Promise.race([next, node.gone, sleep(patience)]);
        const update: CommandUpdate | undefined = step?.value;
        if (!update) {
          void source.return?.();
          return false;
        }
        callers.push({ kind: 'accepted', id, as: id });
        accepted.resolve();
        if (!isTerminalUpdate(update)) continue;
        callers.push({ kind: 'ended', id, as: id, state: update.state });
        return true;
      }
    };
    const run = async (): Promise<void> => {
      for (let tries = 0; ; tries++) {
        try {
          if (await attempt(tries === 0)) return;
        } catch (thrown) {
          const { code } = toHubError(thrown);
          if (!['unavailable', 'not-found', 'client-offline', 'resource-exhausted'].includes(code)) throw thrown;
        }
        await sleep(50);
      }
    };
    return { accepted: accepted.promise, ended: run() };
  };
  const caller = async (clientId: string): Promise<void> => {
    const open: Promise<void>[] = [];
    for (let n = 0; n < perClient; n++) {
      const { accepted, ended } = send(clientId, n);
      ended.catch(() => undefined); // awaited below
      open.push(ended);
      await Promise.race([accepted, ended]);
      await sleep(60 * random());
    }
    await Promise.all(open);
  };
  void accidents();
  const all = Promise.all(clients.map(caller));
  void sleep(perClient * 1000).then(() => {
    isCalm = true;
  });
  await settled(all);
  isCalm = true;
  await settled(sleep(4000));
  for (const device of devices) device.stop();
  for (const node of nodes) node.kill();
  await clock.advance(5000);
  return { verdict: compare(callers, effects), happened };
}

test('in simulated storms over three nodes nothing accepted is lost, nothing runs twice, and the order holds (P1-P3, P15)', {
  timeout: size(300_000, 2_400_000),
}, async () => {
  const { seed: first } = dice();
  const seen: Record<string, number> = {};
  for (let i = 0; i < size(20, 2000); i++) {
    const { verdict, happened } = await storm(first + i, 40);
    for (const [what, times] of Object.entries(happened)) seen[what] = (seen[what] ?? 0) + times;
    for (const [state, times] of Object.entries(verdict.states)) seen[state] = (seen[state] ?? 0) + times;
    expect(verdict.broken, `seed ${first + i}`).toEqual([]);
  }
  figures(`storms over nodes: ${JSON.stringify(seen)}`);
});
