import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type CommandStore, Hub, type HubOptions, memoryCommandStore } from '../../src/hub/index.ts';
import type { Command, CommandUpdate } from '../../src/protocol/command.ts';
import type { CommandTransport } from '../../src/protocol/command-transport.ts';
import {
  collect,
  type ScriptedDevice,
  scriptedDevice,
  testCommand,
  type VirtualClock,
  virtualClock,
} from '../../src/testing/index.ts';

/** A way for callers to the hub that the suite has opened. */
export interface Road {
  /** The road of a caller of this tenant. */
  as(tenant: string): CommandTransport;
  watch(tenant: string, commandId: string): AsyncIterable<CommandUpdate>;
  cancel(tenant: string, commandId: string): Promise<CommandUpdate>;
  close(): Promise<void>;
}

const states = (updates: readonly CommandUpdate[]): string[] => updates.map(({ state }) => state);

/** With plain arrays of bytes: a wire hands over Buffers, which are equal to Uint8Arrays in all but their class. */
function plain<T>(value: T): T {
  if (value instanceof Uint8Array) return Uint8Array.from(value) as T;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)])) as T;
}

/** An update as it is the same on every road, whenever it was. */
function told({ atMs, ...update }: CommandUpdate): object {
  expect(atMs).toBeGreaterThan(0);
  return plain(update);
}

/** What the suite gives its hub. */
export interface Ground {
  readonly clock: VirtualClock;
  readonly commands: CommandStore;
  readonly mailboxCommands: number;
}

/**
 * What every road to a hub does alike. The hub's clock stands still but where a test moves it. `prepare` may add to the
 * hub's options.
 */
export function commandTransportContract(
  name: string,
  open: (hub: Hub) => Promise<Road>,
  prepare: (ground: Ground) => Promise<HubOptions> = async () => ({}),
  /** What this road does otherwise, and why. */
  deviations: { readonly idOfAnotherClient?: string; readonly drain?: string } = {},
): void {
  describe(`${name} as a road for commands`, () => {
    let clock: VirtualClock;
    let hub: Hub;
    let road: Road;
    let device: ScriptedDevice;
    let transport: CommandTransport;

    beforeEach(async () => {
      clock = virtualClock();
      const ground = { clock, commands: memoryCommandStore(), mailboxCommands: 3 };
      hub = new Hub({ ...ground, random: () => 0.5, ...(await prepare(ground)) });
      road = await open(hub);
      transport = road.as('default');
      device = scriptedDevice(hub);
      await device.hello({ bootId: 'boot-1' });
    });
    afterEach(async () => {
      await road.close();
      await hub.close();
    });

    const send = (command: Command, signal?: AbortSignal): Promise<CommandUpdate[]> =>
      collect(transport.send(command, { signal }));
    const refusal = async (command: Command): Promise<object> =>
      send(command).then(
        (updates) => expect.fail(`it was taken: ${states(updates)}`),
        (error: object) => error,
      );
    /** Resolves once the hub has taken the command on. */
    const accepted = async (commandId: string): Promise<void> => {
      while (!(await hub.list({ tenant: 'default', limit: 100 })).some(({ command }) => command.id === commandId))
        await new Promise((resolve) => setImmediate(resolve));
    };

    test('a command is told step by step, with the result of the device', async () => {
      const { id, clientId, ...rest } = testCommand({ id: 'cmd-1' });
      const updates = send({ id, clientId, ...rest });
      expect(plain((await device.command()).payload?.value)).toEqual(new Uint8Array([1, 2, 3]));
      device.send({ $case: 'started', value: { commandId: id } });
      device.succeed(id, { type: 'test.Done', value: new Uint8Array([7]) });
      expect((await updates).map(told)).toEqual([
        { commandId: id, clientId, state: 'queued' },
        { commandId: id, clientId, state: 'sent' },
        { commandId: id, clientId, state: 'delivered' },
        { commandId: id, clientId, state: 'started' },
        { commandId: id, clientId, state: 'succeeded', result: { type: 'test.Done', value: new Uint8Array([7]) } },
      ]);
    });

    test.each(['fail', 'queue'] as const)(
      'the end comes to who wants no more, and the acceptance of what is queued (%s)',
      async (whenOffline) => {
        const { id, clientId, ...rest } = testCommand({ whenOffline, timeoutMs: whenOffline === 'queue' ? 0 : 30_000 });
        const updates = collect(transport.send({ id, clientId, ...rest }, { brief: true }));
        await device.command();
        device.send({ $case: 'started', value: { commandId: id } });
        device.succeed(id, { type: 'test.Done', value: new Uint8Array([7]) });
        const all = (await updates).map(told);
        expect(all.length).toBeLessThanOrEqual(2);
        if (whenOffline === 'queue') expect(all[0]).toEqual({ commandId: id, clientId, state: 'queued' });
        const result = { type: 'test.Done', value: new Uint8Array([7]) };
        expect(all.at(-1)).toEqual({ commandId: id, clientId, state: 'succeeded', result });
      },
    );

    test('delivered means that the device has acknowledged it', async () => {
      const iterator = transport.send(testCommand())[Symbol.asyncIterator]();
      expect((await iterator.next()).value).toMatchObject({ state: 'queued' });
      expect((await iterator.next()).value).toMatchObject({ state: 'sent' });
      let isDelivered = false;
      const next = iterator.next().then((step) => {
        isDelivered = true;
        return step;
      });
      device.send({ $case: 'ping', value: { nonce: 1 } }, { ack: 0 });
      await device.next((frame) => frame.body?.$case === 'pong');
      expect(isDelivered).toBe(false);
      device.acknowledge();
      expect((await next).value).toMatchObject({ state: 'delivered' });
      await iterator.return?.();
    });

    test('a client without a stream is offline, and the error names it', async () => {
      expect(await refusal(testCommand({ id: 'cmd-1', clientId: 'pump-9' }))).toMatchObject({
        name: 'HubError',
        code: 'client-offline',
        message: 'client pump-9 has no live stream',
        commandId: 'cmd-1',
      });
    });

    test('a live command waits for its client as long as it may', async () => {
      const command = testCommand({ clientId: 'pump-9', waitForConnectMs: 5_000 });
      const updates = send(command);
      const late = scriptedDevice(hub);
      // Over a wire it may come a moment after the client has: both are well.
      await late.hello({ clientId: 'pump-9' });
      late.succeed((await late.command()).id);
      expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
    });

    test('a client that does not come in time is offline', async () => {
      const refused = refusal(testCommand({ clientId: 'pump-9', waitForConnectMs: 5_000 }));
      let isOver = false;
      void refused.then(() => (isOver = true));
      while (!isOver) await clock.advance(1_000);
      expect(await refused).toMatchObject({
        code: 'client-offline',
        message: 'client pump-9 did not connect within 5000 ms',
      });
    });

    test.each(['failed', 'rejected', 'unknown'] as const)('a command that ends %s carries why', async (state) => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      device.end(command.id, state, 'too-hot', 'the bearing has 130 °C');
      expect((await updates).map(told).at(-1)).toEqual({
        commandId: command.id,
        clientId: 'pump-7',
        state,
        error: { code: 'too-hot', message: 'the bearing has 130 °C' },
      });
    });

    test('items come all and in order', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      const item = (i: number) => ({ type: 'test.Line', value: new Uint8Array([i & 0xff, i >> 8]) });
      for (let i = 0; i < 300; i++) {
        const value = {
          commandId: command.id,
          progress: { fraction: undefined, note: '', item: item(i), itemNumber: 0 },
        };
        device.send({ $case: 'progress', value });
      }
      device.succeed(command.id);
      const items = (await updates).flatMap((update) => (update.state === 'progress' ? [plain(update.progress)] : []));
      expect(items).toEqual(Array.from({ length: 300 }, (_, i) => ({ item: item(i), itemNumber: i + 1 })));
    });

    test('progress carries its fraction and its note', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      const progress = { fraction: 0.5, note: 'spinning up', item: undefined, itemNumber: 0 };
      device.send({ $case: 'progress', value: { commandId: command.id, progress } });
      device.succeed(command.id);
      expect((await updates).find(({ state }) => state === 'progress')).toMatchObject({
        progress: { fraction: 0.5, note: 'spinning up' },
      });
    });

    test('aborting asks the device to stop, and its answer is the end', async () => {
      const aborter = new AbortController();
      const command = testCommand();
      const updates = send(command, aborter.signal);
      await device.command();
      aborter.abort();
      await device.next((frame) => frame.body?.$case === 'cancel' && frame.body.value.commandId === command.id);
      device.end(command.id, 'cancelled', 'cancelled', 'stopped half way');
      expect((await updates).at(-1)).toMatchObject({ state: 'cancelled', error: { message: 'stopped half way' } });
    });

    test('a cancel that comes too late changes nothing', async () => {
      const aborter = new AbortController();
      const command = testCommand();
      const updates = send(command, aborter.signal);
      await device.command();
      aborter.abort();
      await device.next((frame) => frame.body?.$case === 'cancel');
      device.succeed(command.id);
      expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
    });

    test('aborted before it was sent, a command is never sent', async () => {
      const command = testCommand();
      const refused = send(command, AbortSignal.abort());
      await expect(refused).rejects.toMatchObject({ code: 'command-cancelled' });
      expect(device.commands).toEqual([]);
    });

    test('a queued command that was not sent is cancelled for certain', async () => {
      device.cut();
      const aborter = new AbortController();
      const iterator = transport.send(testCommand({ whenOffline: 'queue' }), { signal: aborter.signal });
      const seen: CommandUpdate[] = [];
      for await (const update of iterator) {
        seen.push(update);
        if (update.state === 'queued') aborter.abort();
      }
      expect(states(seen)).toEqual(['queued', 'cancelled']);
    });

    test('a command whose time is over before it was acknowledged ends unknown: it may have been run', async () => {
      const updates = send(testCommand({ timeoutMs: 2_000 }));
      await device.command();
      let end: CommandUpdate[] | undefined;
      void updates.then((all) => (end = all));
      while (end === undefined) await clock.advance(1_000);
      expect(end.at(-1)).toMatchObject({ state: 'unknown' });
    });

    test('a queued command whose time to live is over before it was sent expires', async () => {
      device.cut();
      let end: CommandUpdate[] | undefined;
      void send(testCommand({ whenOffline: 'queue', ttlMs: 60_000 })).then((all) => (end = all));
      while (end === undefined) await clock.advance(10_000);
      expect(states(end)).toEqual(['queued', 'expired']);
    });

    test('a queued command outlives its device being away', async () => {
      device.cut();
      const command = testCommand({ whenOffline: 'queue' });
      const updates = send(command);
      await accepted(command.id);
      const back = scriptedDevice(hub);
      await back.hello({ bootId: 'boot-2' });
      back.succeed((await back.command()).id);
      expect(states(await updates)).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
    });

    test('the same idempotency key is the same command', async () => {
      const first = testCommand({ idempotencyKey: 'order-1' });
      const updates = send(first);
      await device.command();
      const repeated = send({ ...testCommand(), idempotencyKey: 'order-1' });
      await expect.poll(async () => hub.list({ tenant: 'default', limit: 9 })).toHaveLength(1);
      device.succeed(first.id);
      expect(await updates).toEqual(await repeated);
      expect(device.commands).toHaveLength(1);
    });

    test('the same idempotency key with another payload is a conflict', async () => {
      const updates = send(testCommand({ idempotencyKey: 'order-1' }));
      const { id } = await device.command();
      const other = testCommand({
        idempotencyKey: 'order-1',
        payload: { type: 'test.Other', value: new Uint8Array() },
      });
      expect(await refusal(other)).toMatchObject({ code: 'idempotency-conflict', commandId: other.id });
      device.succeed(id);
      await updates;
    });

    test('an id that was used is the command that it was', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      device.succeed(command.id);
      expect(await send(command)).toEqual(await updates);
      expect(device.commands).toHaveLength(1);
    });

    test.skipIf(deviations.idOfAnotherClient)('an id that was used for another client is a conflict', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      device.succeed(command.id);
      await updates;
      expect(await refusal({ ...command, clientId: 'pump-8' })).toMatchObject({ code: 'idempotency-conflict' });
    });

    test('to another tenant neither client nor command are there', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      const stranger = road.as('other').send(testCommand({ tenant: 'other' }));
      await expect(collect(stranger)).rejects.toMatchObject({ code: 'client-offline' });
      await expect(collect(road.watch('other', command.id))).rejects.toMatchObject({ code: 'not-found' });
      await expect(road.cancel('other', command.id)).rejects.toMatchObject({ code: 'not-found' });
      device.succeed(command.id);
      expect((await updates).at(-1)?.state).toBe('succeeded');
    });

    test('whoever watches a command is told the same as its sender', async () => {
      const command = testCommand();
      const updates = send(command);
      await device.command();
      const watched = collect(road.watch('default', command.id));
      device.succeed(command.id);
      expect(await watched).toEqual(await updates);
    });

    const invalid: [string, Partial<Command>, RegExp][] = [
      ['a client id with spaces', { clientId: 'pump 7' }, /client id "pump 7"/],
      ['no client id', { clientId: '' }, /client id ""/],
      ['a client id that climbs', { clientId: '../pump-7' }, /client id "..\/pump-7"/],
      ['an id with a slash', { id: 'a/b' }, /command id "a\/b"/],
      [
        'a payload type with a line break',
        { payload: { type: 'a\nb', value: new Uint8Array() } },
        /payload type "a\\nb"/,
      ],
      ['a time that is too long', { whenOffline: 'queue', ttlMs: 99e9 }, /ttlMs "99000000000"/],
      ['an empty key of blanks', { idempotencyKey: ' ' }, /idempotencyKey " "/],
      ['a coalesce key on a live command', { coalesceKey: 'config' }, /coalesceKey "config"/],
      ['a payload over the limit', { payload: { type: '', value: new Uint8Array(1024 * 1024 + 1) } }, /1048577 bytes/],
    ];
    test.each(invalid)('%s is refused by name, and nothing is sent', async (_, fields, message) => {
      expect(await refusal(testCommand(fields))).toMatchObject({
        code: 'invalid-argument',
        message: expect.stringMatching(message),
      });
      expect(device.commands).toEqual([]);
    });

    test('leaving the loop stops the watching, not the command', async () => {
      const command = testCommand();
      for await (const update of transport.send(command)) if (update.state === 'sent') break;
      device.succeed((await device.command()).id);
      expect((await collect(road.watch('default', command.id))).at(-1)).toMatchObject({ state: 'succeeded' });
      expect(device.frames.some((frame) => frame.body?.$case === 'cancel')).toBe(false);
    });

    test('return() works at once, also while an update is waited for', async () => {
      const iterator = transport.send(testCommand())[Symbol.asyncIterator]();
      for (let i = 0; i < 2; i++) await iterator.next();
      const pending = iterator.next();
      await iterator.return?.();
      expect(await pending).toEqual({ value: undefined, done: true });
      expect(await iterator.next()).toEqual({ value: undefined, done: true });
    });

    test('a full mailbox says when to come again', async () => {
      device.cut();
      const fill = Array.from({ length: 3 }, () => testCommand({ whenOffline: 'queue' }));
      for (const command of fill) for await (const update of transport.send(command)) if (update.state) break;
      expect(await refusal(testCommand({ whenOffline: 'queue' }))).toMatchObject({
        code: 'mailbox-full',
        message: expect.stringContaining('3'),
        retryAfterMs: 1_000,
      });
    });

    test.skipIf(deviations.drain)('a hub that drains refuses with the time to come again', async () => {
      void hub.drain({ reconnectAfterMs: 700, spreadMs: 0 });
      expect(await refusal(testCommand())).toMatchObject({ code: 'unavailable', retryAfterMs: 700 });
    });
  });
}
