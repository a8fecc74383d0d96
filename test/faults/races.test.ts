import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CommandStore, Hub, type HubFact, memoryCommandStore } from '../../src/hub/index.ts';
import { type CommandUpdate, isTerminalUpdate } from '../../src/protocol/command.ts';
import { type ScriptedDevice, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';
import { dice, size } from './support/sizes.ts';

/** A store whose answers come when the scheduler says so. */
function scheduled(store: CommandStore, s: fc.Scheduler): CommandStore {
  const later = <T>(label: string, call: () => Promise<T>): Promise<T> =>
    s
      .schedule(Promise.resolve(), label)
      .then(call)
      .then((value) => s.schedule(Promise.resolve(value), `${label} done`));
  return {
    add: (...args) => later('add', () => store.add(...args)),
    markSent: (...args) => later('mark', () => store.markSent(...args)),
    advance: (...args) => later('advance', () => store.advance(...args)),
    finish: (...args) => later('finish', () => store.finish(...args)),
    get: (...args) => later('get', () => store.get(...args)),
    mailbox: (...args) => later('mailbox', () => store.mailbox(...args)),
    due: (...args) => store.due(...args),
    list: (...args) => store.list(...args),
    count: (...args) => store.count(...args),
    prune: (...args) => store.prune(...args),
    close: () => store.close(),
  };
}

test('a cancel is linear: what was cancelled while queued is never run, and every race has one end (P6)', {
  timeout: 120_000,
}, async () => {
  const numRuns = size(2000, 50_000);
  /** How often the races came out how. */
  const met: Record<string, number> = {};
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.boolean(),
      fc.constantFrom('once', 'twice', 'abort'),
      async (s, queued, how) => {
        const clock = virtualClock();
        const hub = new Hub({
          clock,
          random: () => 0.5,
          commands: scheduled(memoryCommandStore(), s),
          heartbeatMs: 1e9,
        });
        const runs: string[] = [];
        const told = new Set<string>();
        let device: ScriptedDevice | undefined;
        const connect = async (): Promise<void> => {
          device = scriptedDevice(hub);
          await device.hello();
          for (let n = 1; ; n++) {
            const { id } = await device.command(n);
            s.schedule(Promise.resolve(), 'the device runs it').then(() => {
              const isCancelled = device!.frames.some(
                ({ body }) => body?.$case === 'cancel' && body.value.commandId === id,
              );
              if (isCancelled) device!.end(id, 'cancelled');
              else if (!runs.includes(id)) {
                runs.push(id);
                void s.schedule(Promise.resolve(), 'the device answers').then(() => device!.succeed(id));
              }
            });
          }
        };
        const command = testCommand({
          whenOffline: queued ? 'queue' : 'fail',
          waitForConnectMs: queued ? 0 : 10_000,
          timeoutMs: queued ? 0 : 20_000,
        });
        const controller = new AbortController();
        const updates: CommandUpdate[] = [];
        let failed: unknown;
        const send = async (): Promise<void> => {
          for await (const update of hub.send(command, { signal: controller.signal })) {
            updates.push(update);
            told.add(update.state);
          }
        };
        let answer: CommandUpdate | undefined;
        let wasSent = false;
        const cancel = async (): Promise<void> => {
          if (how === 'abort') return controller.abort();
          for (let i = 0; i < (how === 'twice' ? 2 : 1); i++)
            answer = await hub.cancel('default', command.id, 'race').catch(() => answer);
          wasSent = told.has('sent') || told.has('delivered');
        };
        const ignore = (): undefined => undefined;
        void s.schedule(Promise.resolve(), 'connect').then(connect).catch(ignore);
        void s
          .schedule(Promise.resolve(), 'send')
          .then(send)
          .catch((error: unknown) => {
            failed = error;
          });
        void s.schedule(Promise.resolve(), 'cancel').then(cancel).catch(ignore);
        for (let idle = 0; idle < 3; ) {
          if (s.count() > 0) {
            await s.waitOne();
            idle = 0;
          } else {
            idle++;
            await clock.advance(60);
          }
        }
        const ends = updates.filter(isTerminalUpdate);
        const outcome = `${ends[0]?.state ?? 'refused'} ${told.has('sent') || told.has('delivered') ? 'after' : 'before'} it was sent`;
        met[outcome] = (met[outcome] ?? 0) + 1;
        if (updates.length > 0) {
          expect(ends, 'one end').toHaveLength(1);
          expect(updates.at(-1)).toBe(ends[0]);
          if (ends[0]!.state === 'succeeded') expect(runs).toEqual([command.id]);
          if (answer && isTerminalUpdate(answer)) expect(answer.state, 'the answer stands').toBe(ends[0]!.state);
          if (answer?.state === 'cancelled' && !wasSent) expect(runs, 'cancelled while queued').toEqual([]);
          if (ends[0]!.state === 'cancelled') expect(runs, 'cancelled and yet run').toEqual([]);
        } else {
          expect(failed, 'refused with an error').toMatchObject({ code: 'command-cancelled' });
          expect(runs).toEqual([]);
        }
        device?.cut();
        await hub.close();
      },
    ),
    { numRuns },
  );
  // Nothing would be shown by races that always come out the same.
  for (const outcome of [
    'cancelled before it was sent',
    'cancelled after it was sent',
    'succeeded after it was sent',
    'refused before it was sent',
  ])
    expect(met[outcome] ?? 0, `${outcome}: ${JSON.stringify(met)}`).toBeGreaterThan(numRuns / 50);
});

test('forged, foreign, late and repeated results change nothing, whoever sends them (P5)', async () => {
  const { random, between } = dice();
  const facts: HubFact[] = [];
  const clock = virtualClock();
  const hub = new Hub({
    clock,
    random,
    commands: memoryCommandStore(),
    heartbeatMs: 1e9,
    observe: (fact) => facts.push(fact),
  });
  const owner = scriptedDevice(hub);
  const forger = scriptedDevice(hub);
  await owner.hello({ clientId: 'owner' });
  await forger.hello({ clientId: 'forger' });
  const seen = new Map<string, CommandUpdate[]>();
  const forgedIds: string[] = [];
  for (let i = 0; i < size(300, 5000); i++) {
    const command = testCommand({
      clientId: 'owner',
      whenOffline: random() < 0.5 ? 'queue' : 'fail',
      timeoutMs: 30_000,
    });
    const updates: CommandUpdate[] = [];
    seen.set(command.id, updates);
    const reading = (async () => {
      for await (const update of hub.send(command)) updates.push(update);
    })();
    await owner.command(i + 1);
    const ids = [...seen.keys()];
    const other = ids[between(0, ids.length - 1)]!;
    for (let n = between(0, 3); n > 0; n--) {
      const forged = random() < 0.7 ? command.id : other;
      forgedIds.push(forged);
      if (random() < 0.5) forger.succeed(forged, { type: 'forged', value: new Uint8Array([66]) });
      else forger.end(forged, 'failed', 'forged');
      if (random() < 0.3) forger.send({ $case: 'started', value: { commandId: forged } });
      if (random() < 0.3) owner.succeed('no-such-command');
    }
    owner.succeed(command.id);
    // Late, repeated and contradicting ones of its own.
    if (random() < 0.5) owner.end(command.id, 'failed', 'second thoughts');
    if (random() < 0.5) owner.succeed(other);
    await reading;
    expect(forger.isClosed).toBe(false);
  }
  for (const updates of seen.values()) {
    expect(updates.filter(isTerminalUpdate)).toHaveLength(1);
    expect(updates.at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
  }
  const refusals = facts.filter((fact) => fact.kind === 'frame-ignored' && fact.clientId === 'forger');
  expect(refusals.length).toBeGreaterThanOrEqual(forgedIds.length);
  expect(
    refusals.every((fact) => fact.kind === 'frame-ignored' && ['permission-denied', 'not-found'].includes(fact.code)),
  ).toBe(true);
  await hub.close();
});

test('an older stream of a client that was taken over changes nothing any more (P5, P8)', async () => {
  const clock = virtualClock();
  const hub = new Hub({ clock, random: () => 0.5, commands: memoryCommandStore(), heartbeatMs: 1e9 });
  const epochs: number[] = [];
  let old: ScriptedDevice | undefined;
  for (let i = 0; i < 200; i++) {
    const device = scriptedDevice(hub);
    epochs.push((await device.hello({ journalId: 'one' })).epoch);
    const updates: CommandUpdate[] = [];
    const command = testCommand({ timeoutMs: 30_000 });
    const reading = (async () => {
      for await (const update of hub.send(command)) updates.push(update);
    })();
    await device.command(1);
    old?.succeed(command.id, { type: 'stale', value: new Uint8Array() });
    old?.acknowledge();
    if (old) expect((await old.closed())?.message).toContain('took over');
    device.succeed(command.id);
    await reading;
    expect(updates.at(-1)).toMatchObject({ state: 'succeeded', result: { type: 'test.Done' } });
    old = device;
  }
  expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b));
  await hub.close();
});
