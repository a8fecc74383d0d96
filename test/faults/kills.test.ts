import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import { faultProxy } from '../../src/testing/index.ts';
import { submit } from './support/callers.ts';
import { compare } from './support/checker.ts';
import { Child, killAll } from './support/child.ts';
import { HubProcess } from './support/hub.ts';
import { type CallerLine, type EffectLine, Ledger, readLedger } from './support/ledger.ts';
import { dice, figures, size, sleep } from './support/sizes.ts';

afterEach(killAll);

/** Where a hub dies by its own hand: each is between two steps that belong together. */
const points = [
  'stored add', // the caller has no answer
  'stored markSent', // it is not written to the device
  'asked advance', // the device has acknowledged
  'asked finishTold', // the device has told its result
  'stored finishTold', // nobody has been told of it
  'command-delivered',
  'session-opened', // in the middle of a takeover
  'session-closed',
];

/** Commands that a device may have at a time. */
const hubWindow = 16;

test('hubs and devices are killed and links cut: nothing accepted is lost, nothing runs twice, order and keys hold (P1-P4)', {
  timeout: size(900_000, 2_700_000),
}, async () => {
  const { random, between, seed } = dice();
  const [commands, devices, kills] = [size(5000, 50_000), size(50, 200), size(40, 300)];
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-kills-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const files = { callers: path.join(folder, 'callers'), effects: path.join(folder, 'effects') };
  const hub = await HubProcess.start({ data: path.join(folder, 'data'), window: hubWindow, resumeWindowMs: 2000 });
  const deviceRoad = await faultProxy({ target: () => hub.grpc, random });
  const callerRoad = await faultProxy({ target: () => hub.grpc, random });

  const processes = 5;
  // Devices in several processes; those of the last one lose their journals when they are killed.
  const groups = Array.from({ length: processes }, (_, group) => ({
    names: Array.from({ length: devices / processes }, (_, i) => `device-${group}-${i}`),
    isForgetful: group === processes - 1,
  }));
  const names = groups.flatMap((group) => group.names);
  const boot = (group: (typeof groups)[number], losesJournal: boolean): Child =>
    new Child('device-process', {
      address: deviceRoad.address,
      names: group.names,
      journals: path.join(folder, 'journals'),
      losesJournal,
      effects: files.effects,
      workMs: 60,
    });
  const running = groups.map((group) => boot(group, false));
  /** How often the devices of each group were killed. */
  const deaths = groups.map(() => 0);

  const ledger = new Ledger<CallerLine>(files.callers);
  const transport = grpcTransport({ address: callerRoad.address });
  let killed = 0;
  let point: string | undefined;
  /** How many hubs have met their point. */
  const met: Record<string, number> = {};
  /** Nothing else ends a hub than a kill. */
  const noteDeath = async (): Promise<void> => {
    expect(await hub.child.ended, hub.child.stderr).toBe('SIGKILL');
    expect(points).toContain(point);
    met[point!] = (met[point!] ?? 0) + 1;
  };
  let isCalm = false;
  let submittedCount = 0;
  let acceptances = 0;
  // Commands are let go with the kills, so that every kill meets some.
  const allowed = (): number => Math.ceil((commands * (killed + 1)) / (kills + 1));
  let next = 0;
  const caller = async (clientId: string): Promise<void> => {
    const open = new Set<Promise<string>>();
    for (;;) {
      while (next >= allowed() && next < commands) await sleep(10);
      if (next >= commands) break;
      const number = next++;
      const content = String(number);
      const orderingKey = random() < 0.5 ? 'a' : 'b';
      const key = random() < 0.1 ? `key-${number}` : undefined;
      // What a dying hub refuses is submitted again, so that in the end every command is accepted.
      const order = { clientId, content, orderingKey, idempotencyKey: key, retries: 1000 };
      const both = [submit(transport, ledger, order)];
      if (key) both.push(submit(transport, ledger, order));
      submittedCount += both.length;
      await Promise.all(both.map(({ accepted }) => accepted));
      acceptances++;
      if (key && random() < 0.3) {
        const other = submit(transport, ledger, { ...order, content: `not ${content}` });
        expect(await other.ended, 'another content under the same key').toBe('idempotency-conflict');
      }
      for (const { ended } of both) {
        open.add(ended);
        void ended.then(() => open.delete(ended));
      }
      while (open.size > 12) await Promise.race(open);
    }
    await Promise.all(open);
  };
  const callers = Promise.all(names.map(caller));
  callers.catch(() => undefined); // awaited below

  const cutLinks = async (): Promise<void> => {
    while (!isCalm) {
      await sleep(200);
      deviceRoad.cutSome(0.05);
      callerRoad.cutSome(0.2);
    }
  };
  const accidents = cutLinks();
  while (killed < kills) {
    // Each hub does some work before it dies, however slow the machine is.
    const [since, enough, patience] = [acceptances, between(10, 150), performance.now() + 3000];
    while (!hub.child.hasEnded && acceptances - since < enough && performance.now() < patience) await sleep(5);
    if (hub.child.hasEnded) await noteDeath();
    // One in four is killed while it drains.
    if (!hub.child.hasEnded && random() < 0.25) {
      hub.child.signal('SIGTERM');
      await sleep(between(0, 300));
    }
    if (!hub.child.hasEnded) await hub.child.kill();
    expect(['SIGKILL', 0], hub.child.stderr).toContain(await hub.child.ended);
    killed++;
    if (process.env.SIGNALBOX_TALK)
      figures(`${killed} kills, ${next} submitted, ${Math.round(performance.now() / 1000)} s`);
    // Half of the hubs die at a named point, the others by chance.
    point = killed < kills && random() < 0.5 ? points[between(0, points.length - 1)] : undefined;
    await hub
      .start(point === undefined ? {} : { dieAt: { kind: point, nth: between(1, 60) } })
      .catch((error: unknown) => {
        // It may have met its point before it was ready.
        if (!hub.child.hasEnded) throw error;
      });
    if (hub.child.hasEnded) {
      await noteDeath();
      point = undefined;
      await hub.start();
    }
    if (killed % 3 === 0) {
      const at = between(0, groups.length - 1);
      deaths[at]!++;
      await running[at]!.kill();
      running[at] = boot(groups[at]!, groups[at]!.isForgetful);
    }
  }
  isCalm = true;
  const calmAt = performance.now();
  await accidents;
  for (const [at, child] of running.entries())
    if (child.hasEnded) running[at] = boot(groups[at]!, groups[at]!.isForgetful);
  await Promise.race([callers, sleep(size(240_000, 600_000))]);
  await transport.close();
  ledger.close();
  await killAll();
  await deviceRoad.close();
  await callerRoad.close();

  const told = readLedger<CallerLine>(files.callers);
  const verdict = compare(told, readLedger<EffectLine>(files.effects));
  figures(
    `calm for ${Math.round(performance.now() - calmAt)} ms at the end, seed ${seed}, ${hub.starts} hubs, died at ${JSON.stringify(met)}, ${deviceRoad.counts.cut} + ${callerRoad.counts.cut} cuts, ${submittedCount} submitted, ${JSON.stringify({ ...verdict, broken: verdict.broken.length })}`,
  );
  expect(verdict.broken.slice(0, 20)).toEqual([]);
  expect(verdict.accepted).toBe(commands);
  expect(Object.keys(met), 'points at which hubs died by their own hand').not.toEqual([]);
  // Nothing else befell them: no hub and no link makes a command fail, expire or end unknown.
  expect(Object.keys(verdict.states).filter((state) => !['succeeded', 'unknown'].includes(state))).toEqual([]);
  const unknown = new Set(told.flatMap((line) => (line.kind === 'ended' && line.state === 'unknown' ? [line.as] : [])));
  const ownerOf = new Map(
    told.flatMap((line) => (line.kind === 'submitted' ? [[line.id, line.clientId] as const] : [])),
  );
  for (const [at, { names, isForgetful }] of groups.entries()) {
    const count = [...unknown].filter((id) => names.includes(ownerOf.get(id)!)).length;
    // A device that dies was at work on one command of each ordering key; one that loses its journal, on all it was sent.
    const most = deaths[at]! * names.length * (isForgetful ? hubWindow : 2);
    expect(count, `unknown ones of group ${at}, whose devices died ${deaths[at]} times`).toBeLessThanOrEqual(most);
  }
});
