import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import {
  type AddOptions,
  type CommandOwner,
  type CommandStore,
  FencedError,
  type Hold,
  type StoredCommand,
} from '../../src/hub/command-store.ts';
import type { Command, TerminalUpdate } from '../../src/protocol/command.ts';

/** A queued command for client `pump-1`. */
export function queuedCommand(changes: Partial<Command> = {}): Command {
  return {
    id: randomUUID(),
    tenant: 'default',
    clientId: 'pump-1',
    payload: { type: 'example.Start', value: Uint8Array.of(1, 2, 3) },
    whenOffline: 'queue',
    timeoutMs: 30_000,
    waitForConnectMs: 0,
    ttlMs: 60_000,
    idempotent: false,
    ...changes,
  };
}

export function addOptions(changes: Partial<AddOptions> = {}): AddOptions {
  return { nowMs: 1000, dueAtMs: 61_000, maxCommands: 100, maxBytes: 10_000, ...changes };
}

export function succeeded(command: Command, atMs = 5000): TerminalUpdate {
  const result = { type: 'example.Started', value: Uint8Array.of(9) };
  return { commandId: command.id, clientId: command.clientId, atMs, state: 'succeeded', result };
}

export function failed(command: Command, atMs = 6000): TerminalUpdate {
  const error = { code: 'too-hot', message: '71 °C' };
  return { commandId: command.id, clientId: command.clientId, atMs, state: 'failed', error };
}

const ids = (stored: readonly StoredCommand[]) => stored.map(({ command }) => command.id);

export interface StoreUnderTest {
  readonly store: CommandStore;
  /** Makes this the hold on a client, or nobody's. Undefined: the store belongs to one hub, and ignores every `hold`. */
  readonly claim?: (owner: CommandOwner, hold: Hold | undefined) => Promise<void>;
  close(): Promise<void>;
}

/** What every `CommandStore` has to do. `open` makes an empty one. */
export function commandStoreContract(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`CommandStore: ${name}`, () => {
    const closers: (() => Promise<void>)[] = [];
    const opened = async () => {
      const { store, close } = await open();
      closers.push(close);
      return store;
    };
    const openedWithClaims = async () => {
      const { store, claim, close } = await open();
      closers.push(close);
      return { store, claim };
    };
    const add = async (store: CommandStore, command: Command, options?: Partial<AddOptions>) => {
      const outcome = await store.add(command, addOptions(options));
      if (outcome.kind !== 'stored') throw new Error(`not stored: ${outcome.kind}`);
      return outcome;
    };
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });

    test('a command comes back as it was added', async () => {
      const store = await opened();
      const command = queuedCommand({
        idempotencyKey: 'order-1',
        orderingKey: 'valve',
        coalesceKey: 'config',
        traceparent: '00-aa-bb-01',
        idempotent: true,
        timeoutMs: 0,
      });
      const { stored } = await add(store, command, { sentToJournal: 'j1' });
      const found = await store.get(command.id);
      expect(found).toEqual(stored);
      expect(found).toMatchObject({ acceptedAtMs: 1000, dueAtMs: 61_000, sentToJournal: 'j1' });
      expect(found?.command).toEqual(command);
      expect(found?.last).toEqual({ commandId: command.id, clientId: 'pump-1', atMs: 1000, state: 'queued' });
      expect(await store.get('nobody')).toBeUndefined();
    });

    test('a payload that is a view of a larger buffer is kept as the view', async () => {
      const store = await opened();
      const value = Buffer.from('xxhelloxx').subarray(2, 7);
      const command = queuedCommand({ payload: { type: 't', value } });
      await add(store, command);
      expect(Buffer.from((await store.get(command.id))!.command.payload.value).toString()).toBe('hello');
      const empty = queuedCommand({ payload: { type: 't', value: new Uint8Array() } });
      await add(store, empty);
      expect((await store.get(empty.id))!.command.payload.value.byteLength).toBe(0);
    });

    test('the same command again is the one that was accepted before', async () => {
      const store = await opened();
      const command = queuedCommand();
      const { stored } = await add(store, command);
      const outcome = await store.add(command, addOptions({ nowMs: 2000 }));
      expect(outcome).toEqual({ kind: 'existing', stored });
      expect(await store.count()).toBe(1);
    });

    test('the same idempotency key with the same content is one command, also after its end', async () => {
      const store = await opened();
      const first = queuedCommand({ idempotencyKey: 'k' });
      await add(store, first);
      const again = await store.add(queuedCommand({ idempotencyKey: 'k' }), addOptions());
      expect(again).toMatchObject({ kind: 'existing', stored: { command: { id: first.id } } });
      await store.finish(succeeded(first));
      const late = await store.add(queuedCommand({ idempotencyKey: 'k' }), addOptions());
      expect(late).toMatchObject({ kind: 'existing', stored: { last: { state: 'succeeded' } } });
    });

    test('parallel sends with one key are one command', async () => {
      const store = await opened();
      const sends = Array.from({ length: 20 }, () => queuedCommand({ idempotencyKey: 'k' }));
      const outcomes = await Promise.all(sends.map((command) => store.add(command, addOptions())));
      expect(outcomes.map(({ kind }) => kind).sort()).toEqual([...Array(19).fill('existing'), 'stored']);
      expect(await store.count()).toBe(1);
    });

    test('a key or id that is taken by other content is a conflict, and changes nothing', async () => {
      const store = await opened();
      const command = queuedCommand({ idempotencyKey: 'k' });
      await add(store, command);
      const payload = { type: 'example.Stop', value: Uint8Array.of(1, 2, 3) };
      const otherContent = await store.add(queuedCommand({ idempotencyKey: 'k', payload }), addOptions());
      expect(otherContent).toMatchObject({ kind: 'conflict', message: expect.stringContaining('"k"') });
      for (const change of [{ payload }, { clientId: 'pump-2' }, { tenant: 'other' }]) {
        const sameId = await store.add({ ...command, ...change }, addOptions());
        expect(sameId).toMatchObject({ kind: 'conflict', message: expect.stringContaining(command.id) });
      }
      expect(await store.count()).toBe(1);
    });

    test('a key belongs to one client of one tenant', async () => {
      const store = await opened();
      await add(store, queuedCommand({ idempotencyKey: 'k' }));
      await add(store, queuedCommand({ idempotencyKey: 'k', clientId: 'pump-2' }));
      await add(store, queuedCommand({ idempotencyKey: 'k', tenant: 'other' }));
      expect(await store.count()).toBe(3);
    });

    test('a mailbox is full at its limit of commands, and has room again after an end', async () => {
      const store = await opened();
      const first = queuedCommand();
      await add(store, first, { maxCommands: 2 });
      await add(store, queuedCommand(), { maxCommands: 2 });
      const third = queuedCommand();
      expect(await store.add(third, addOptions({ maxCommands: 2 }))).toMatchObject({
        kind: 'full',
        message: expect.stringContaining('pump-1'),
      });
      expect(await store.get(third.id)).toBeUndefined();
      await add(store, queuedCommand({ clientId: 'pump-2' }), { maxCommands: 2 });
      await store.finish(failed(first));
      await add(store, third, { maxCommands: 2 });
    });

    test('a mailbox is full at its limit of bytes', async () => {
      const store = await opened();
      const of = (length: number) => queuedCommand({ payload: { type: 't', value: new Uint8Array(length) } });
      await add(store, of(60), { maxBytes: 100 });
      expect(await store.add(of(41), addOptions({ maxBytes: 100 }))).toMatchObject({ kind: 'full' });
      await add(store, of(40), { maxBytes: 100 });
      expect(await store.add(of(1), addOptions({ maxBytes: 100 }))).toMatchObject({ kind: 'full' });
    });

    test('a repeated send is not refused by a full mailbox', async () => {
      const store = await opened();
      const command = queuedCommand();
      await add(store, command, { maxCommands: 1 });
      expect(await store.add(command, addOptions({ maxCommands: 1 }))).toMatchObject({ kind: 'existing' });
    });

    test('a newer command with the same coalesce key ends those that were not written', async () => {
      const store = await opened();
      const old = queuedCommand({ coalesceKey: 'config' });
      const written = queuedCommand({ coalesceKey: 'config' });
      const other = queuedCommand({ coalesceKey: 'other' });
      const elsewhere = queuedCommand({ coalesceKey: 'config', clientId: 'pump-2' });
      for (const command of [old, other, elsewhere]) await add(store, command);
      await add(store, written, { sentToJournal: 'j1' });
      const newest = queuedCommand({ coalesceKey: 'config' });
      const { superseded } = await add(store, newest, {
        nowMs: 2000,
        maxCommands: 3,
        supersede: { ids: [], afterPosition: 0 },
      });
      expect(ids(superseded)).toEqual([old.id]);
      expect(superseded[0]?.last).toMatchObject({ state: 'cancelled', atMs: 2000, error: { code: 'superseded' } });
      expect((await store.get(old.id))?.last).toEqual(superseded[0]?.last);
      expect(ids(await store.mailbox('default', 'pump-1', 0, 10))).toEqual([other.id, written.id, newest.id]);
      expect(await store.count('default', 'pump-2')).toBe(1);
    });

    test('coalescing takes the named commands and those above a position, no others', async () => {
      const store = await opened();
      const commands = Array.from({ length: 4 }, () => queuedCommand({ coalesceKey: 'config' }));
      const positions: number[] = [];
      for (const command of commands) positions.push((await add(store, command)).stored.position);
      const { superseded } = await add(store, queuedCommand({ coalesceKey: 'config' }), {
        supersede: { ids: [commands[0]!.id], afterPosition: positions[2]! },
      });
      expect(ids(superseded)).toEqual([commands[0]!.id, commands[3]!.id]);
      const { superseded: none } = await add(store, queuedCommand(), { supersede: { ids: [], afterPosition: 0 } });
      expect(none).toEqual([]);
    });

    test('a mailbox is read in the order of acceptance, from a position on', async () => {
      const store = await opened();
      const commands = Array.from({ length: 5 }, () => queuedCommand());
      await Promise.all(commands.map((command) => store.add(command, addOptions())));
      const all = await store.mailbox('default', 'pump-1', 0, 10);
      expect(ids(all)).toEqual(ids(commands.map((command) => ({ command }) as StoredCommand)));
      expect(ids(await store.mailbox('default', 'pump-1', all[1]!.position, 2))).toEqual([
        commands[2]!.id,
        commands[3]!.id,
      ]);
      await store.finish(succeeded(commands[0]!));
      expect(ids(await store.mailbox('default', 'pump-1', 0, 1))).toEqual([commands[1]!.id]);
      expect(await store.mailbox('other', 'pump-1', 0, 10)).toEqual([]);
    });

    test('states go forward only', async () => {
      const store = await opened();
      const command = queuedCommand();
      await add(store, command);
      await store.advance(command.id, 'started', 1500);
      await store.advance(command.id, 'delivered', 1600);
      await store.advance('nobody', 'delivered', 1600);
      expect((await store.get(command.id))?.last).toEqual({
        commandId: command.id,
        clientId: 'pump-1',
        atMs: 1500,
        state: 'started',
      });
      await store.finish(failed(command));
      await store.advance(command.id, 'progress', 7000);
      expect((await store.get(command.id))?.last.state).toBe('failed');
    });

    test('the first end wins', async () => {
      const store = await opened();
      const command = queuedCommand();
      await add(store, command);
      const ends = await Promise.all([
        store.finish(succeeded(command)),
        store.finish(failed(command)),
        store.finish(failed(command)),
      ]);
      for (const end of ends) expect(end).toEqual(succeeded(command));
      expect((await store.get(command.id))?.last).toEqual(succeeded(command));
      expect(await store.count()).toBe(0);
    });

    test('ending a command that nobody knows is an error, and does not fail what is written beside it', async () => {
      const store = await opened();
      const command = queuedCommand();
      const [added, ended] = await Promise.allSettled([
        store.add(command, addOptions()),
        store.finish(succeeded(queuedCommand({ id: 'nobody' }))),
      ]);
      expect(added.status).toBe('fulfilled');
      expect(ended).toMatchObject({ status: 'rejected', reason: { code: 'not-found' } });
      expect(await store.get(command.id)).toBeDefined();
    });

    test('a command that is sent is marked with the journal, unless it has ended', async () => {
      const store = await opened();
      const command = queuedCommand();
      const ended = queuedCommand();
      await add(store, command);
      await add(store, ended);
      await store.finish(succeeded(ended));
      const marks = [command, ended, { id: 'nobody' }].map(({ id }) => ({ id, dueAtMs: 70_000 }));
      await store.markSent(marks, 'j7');
      expect(await store.get(command.id)).toMatchObject({ sentToJournal: 'j7', dueAtMs: 70_000 });
      expect(await store.get(ended.id)).toMatchObject({ sentToJournal: undefined, dueAtMs: 61_000 });
    });

    test('commands that are due come oldest first, whoever they are for', async () => {
      const store = await opened();
      const late = queuedCommand({ clientId: 'pump-2', tenant: 'other' });
      const early = queuedCommand();
      const endless = queuedCommand();
      const ended = queuedCommand();
      await add(store, late, { dueAtMs: 200 });
      await add(store, early, { dueAtMs: 100 });
      await add(store, endless, { dueAtMs: Number.POSITIVE_INFINITY });
      await add(store, ended, { dueAtMs: 50 });
      await store.finish(succeeded(ended));
      expect(ids(await store.due(99, 10))).toEqual([]);
      expect(ids(await store.due(100, 10))).toEqual([early.id]);
      expect(ids(await store.due(1e15, 10))).toEqual([early.id, late.id]);
      expect(ids(await store.due(1e15, 1))).toEqual([early.id]);
      expect((await store.get(endless.id))?.dueAtMs).toBe(Number.POSITIVE_INFINITY);
    });

    test('lists and counts stay within their tenant', async () => {
      const store = await opened();
      const mine = queuedCommand();
      const ended = queuedCommand();
      const second = queuedCommand({ clientId: 'pump-2' });
      const theirs = queuedCommand({ tenant: 'other' });
      for (const command of [mine, ended, second, theirs]) await add(store, command);
      await store.finish(succeeded(ended));
      const list = async (filter: object) => ids(await store.list({ tenant: 'default', limit: 10, ...filter }));
      expect(await list({})).toEqual([second.id, ended.id, mine.id]);
      expect(await list({ pendingOnly: true })).toEqual([second.id, mine.id]);
      expect(await list({ clientId: 'pump-1' })).toEqual([ended.id, mine.id]);
      expect(await list({ clientId: 'pump-1', pendingOnly: true, limit: 1 })).toEqual([mine.id]);
      expect(await list({ tenant: 'nobody' })).toEqual([]);
      expect(await store.count()).toBe(3);
      expect(await store.count('default')).toBe(2);
      expect(await store.count('default', 'pump-1')).toBe(1);
      expect(await store.count('other', 'pump-1')).toBe(1);
      expect(await store.count('nobody')).toBe(0);
    });

    test('pruning forgets ended commands by age and by count, oldest first, and their keys; pending ones stay', async () => {
      const store = await opened();
      const pending = queuedCommand();
      await add(store, pending);
      const ended = Array.from({ length: 5 }, (_, i) => queuedCommand({ idempotencyKey: `k${i}` }));
      for (const [i, command] of ended.entries()) {
        await add(store, command);
        await store.finish(succeeded(command, 1000 + i));
      }
      expect(await store.prune({ endedBeforeMs: 1002, maxEnded: 100 })).toBe(2);
      expect(await store.prune({ endedBeforeMs: 0, maxEnded: 2 })).toBe(1);
      expect(await store.prune({ endedBeforeMs: 0, maxEnded: 2 })).toBe(0);
      expect(ids(await store.list({ tenant: 'default', limit: 10 }))).toEqual([ended[4]!.id, ended[3]!.id, pending.id]);
      expect(await store.add(queuedCommand({ idempotencyKey: 'k0' }), addOptions())).toMatchObject({ kind: 'stored' });
      expect(await store.prune({ endedBeforeMs: 9999, maxEnded: Number.POSITIVE_INFINITY })).toBe(2);
    });

    test('any sequence of calls leaves a mailbox within its limits and its counts true', async () => {
      const step = fc.record({
        what: fc.constantFrom('add', 'add', 'add', 'finish', 'sent', 'coalesce'),
        client: fc.constantFrom('a', 'b'),
        size: fc.integer({ min: 0, max: 30 }),
        pick: fc.nat(20),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
          const { store, close } = await open();
          const alive = new Map<string, Command>();
          let last = 0;
          for (const { what, client, size, pick } of steps) {
            const chosen = [...alive.values()][pick];
            if (what === 'finish') {
              if (chosen) await store.finish(succeeded(chosen));
              if (chosen) alive.delete(chosen.id);
            } else if (what === 'sent') {
              if (chosen) await store.markSent([{ id: chosen.id, dueAtMs: 1 }], 'j');
            } else {
              const payload = { type: 't', value: new Uint8Array(size) };
              const command = queuedCommand({ clientId: client, payload, coalesceKey: 'c' });
              const supersede = what === 'coalesce' ? { ids: [], afterPosition: 0 } : undefined;
              const outcome = await store.add(command, addOptions({ maxCommands: 5, maxBytes: 80, supersede }));
              if (outcome.kind === 'stored') {
                expect(outcome.stored.position).toBeGreaterThan(last);
                last = outcome.stored.position;
                for (const old of outcome.superseded) expect(alive.delete(old.command.id)).toBe(true);
                alive.set(command.id, command);
              } else expect(outcome.kind).toBe('full');
            }
            for (const name of ['a', 'b']) {
              const expected = [...alive.values()].filter(({ clientId }) => clientId === name);
              const box = await store.mailbox('default', name, 0, 100);
              expect(ids(box)).toEqual(expected.map(({ id }) => id));
              expect(await store.count('default', name)).toBe(expected.length);
              expect(box.length).toBeLessThanOrEqual(5);
              expect(box.reduce((sum, { command }) => sum + command.payload.value.byteLength, 0)).toBeLessThanOrEqual(
                80,
              );
            }
          }
          await close();
        }),
        { numRuns: 15 },
      );
    });

    test('a command for a client that is held otherwise is not taken, and the holder is named', async () => {
      const { store, claim } = await openedWithClaims();
      if (!claim) return expectHoldsIgnored(store);
      const owner = { tenant: 'default', clientId: 'pump-1' };
      const a = { instance: 'a', epoch: 7 };
      const b = { instance: 'b', epoch: 8 };
      expect(await store.add(queuedCommand(), addOptions({ hold: a }))).toEqual({ kind: 'wrong-node' });
      await add(store, queuedCommand(), { hold: 'nobody' });
      await claim(owner, a);
      await add(store, queuedCommand(), { hold: a });
      const command = queuedCommand({ idempotencyKey: 'k' });
      expect(await store.add(command, addOptions({ hold: 'nobody' }))).toEqual({ kind: 'wrong-node', holder: a });
      expect(await store.add(command, addOptions({ hold: b }))).toEqual({ kind: 'wrong-node', holder: a });
      await claim(owner, b);
      expect(await store.add(command, addOptions({ hold: a }))).toEqual({ kind: 'wrong-node', holder: b });
      const older = { ...b, epoch: 7 };
      expect(await store.add(command, addOptions({ hold: older }))).toEqual({ kind: 'wrong-node', holder: b });
      expect(await store.get(command.id)).toBeUndefined();
      expect(await store.count('default', 'pump-1')).toBe(2);
      await add(store, command, { hold: b });
    });

    test('what is nobody’s is ended only while it is', async () => {
      const { store, claim } = await openedWithClaims();
      if (!claim) return expectHoldsIgnored(store);
      const a = { instance: 'a', epoch: 7 };
      const command = queuedCommand();
      await add(store, command, { hold: 'nobody' });
      await claim(command, a);
      const nobody = { owner: command, hold: 'nobody' } as const;
      await expect(store.finish(failed(command), nobody)).rejects.toMatchObject({ code: 'unavailable', holder: a });
      await claim(command, undefined);
      expect(await store.finish(failed(command), nobody)).toEqual(failed(command));
    });

    test('a hub that lost its hold changes nothing any more', async () => {
      const { store, claim } = await openedWithClaims();
      if (!claim) return expectHoldsIgnored(store);
      const a = { instance: 'a', epoch: 7 };
      const b = { instance: 'b', epoch: 8 };
      const command = queuedCommand();
      await claim(command, a);
      const { stored } = await add(store, command, { hold: a });
      await claim(command, b);
      const late = { owner: command, hold: a };
      const refusal = { code: 'unavailable', holder: b };
      await expect(store.markSent([{ id: command.id, dueAtMs: 1 }], 'j', late)).rejects.toMatchObject(refusal);
      await expect(store.advance(command.id, 'started', 1, late)).rejects.toMatchObject(refusal);
      const finished = store.finish(succeeded(command), late);
      await expect(finished).rejects.toMatchObject(refusal);
      await expect(finished).rejects.toBeInstanceOf(FencedError);
      expect(await store.get(command.id)).toEqual(stored);
      await claim(command, undefined);
      await expect(store.finish(failed(command), late)).rejects.toMatchObject({ holder: undefined });
      await claim(command, b);
      await store.markSent([{ id: command.id, dueAtMs: 99 }], 'j', { owner: command, hold: b });
      await store.advance(command.id, 'started', 1500, { owner: command, hold: b });
      expect(await store.get(command.id)).toMatchObject({ sentToJournal: 'j', last: { state: 'started' } });
      expect(await store.finish(succeeded(command), { owner: command, hold: b })).toEqual(succeeded(command));
    });

    test('a closed store refuses', async () => {
      const { store, close } = await open();
      await close();
      await expect(store.add(queuedCommand(), addOptions())).rejects.toMatchObject({ code: 'unavailable' });
    });
  });
}

/** A store of one process has nobody to ask: a write is taken whatever hold it names. */
async function expectHoldsIgnored(store: CommandStore): Promise<void> {
  const command = queuedCommand();
  const hold = { instance: 'a', epoch: 7 };
  expect(await store.add(command, addOptions({ hold }))).toMatchObject({ kind: 'stored' });
  await store.markSent([{ id: command.id, dueAtMs: 1 }], 'j', { owner: command, hold });
  await store.advance(command.id, 'started', 1, { owner: command, hold });
  expect(await store.finish(failed(command), { owner: command, hold })).toEqual(failed(command));
}
