import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { Readable } from 'node:stream';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { ScriptedHub } from './scripted-hub.ts';
import { echo, text } from './tools.ts';

const devices: Device[] = [];
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'signalbox-device-'));
});
afterEach(async () => {
  await Promise.all(devices.splice(0).map((device) => device.close({ timeoutMs: 0 })));
  rmSync(directory, { recursive: true });
});

function keep(device: Device): Device {
  devices.push(device);
  return device;
}

const reached = (device: Device, kind: Device['state']['kind']): Promise<Device['state']> =>
  new Promise((resolve) => {
    if (device.state.kind === kind) resolve(device.state);
    device.onStateChange((state) => state.kind === kind && resolve(state));
  });

describe.each([
  ['over node:http2', {}],
  ['over grpc-js', { channelOptions: {} }],
])('%s', (_, wire) => {
  test('the token goes with the stream, and a hub at a Unix socket is found', async () => {
    await using hub = await ScriptedHub.start(`unix://${join(directory, 'hub.sock')}`);
    const connecting = connectDevice({
      ...wire,
      address: hub.address,
      clientId: 'pump-7',
      token: async () => 'secret',
    });
    const stream = await hub.stream();
    await stream.welcome();
    keep(await connecting);
    expect(stream.authorization).toBe('Bearer secret');
  });

  test.each([
    ['UNAUTHENTICATED', 'unauthenticated'],
    ['PERMISSION_DENIED', 'permission-denied'],
  ] as const)('a hub that answers %s is not asked again', async (name, code) => {
    await using hub = await ScriptedHub.start();
    const connecting = connectDevice({ ...wire, address: hub.address, clientId: 'pump-7', token: 'secret' });
    const refused = expect(connecting).rejects.toMatchObject({ code });
    (await hub.stream()).fail(status[name], 'go away');
    await refused;
  });

  test('an address where nobody listens is tried until somebody does', async () => {
    const gone = await ScriptedHub.start();
    await gone[Symbol.asyncDispose]();
    const device = keep(
      await connectDevice({
        ...wire,
        address: gone.address,
        clientId: 'pump-7',
        waitForWelcome: false,
        backoff: { minMs: 10, maxMs: 20 },
      }),
    );
    await reached(device, 'waiting');
    await using hub = await ScriptedHub.start(gone.address);
    await (await hub.stream()).welcome();
    await reached(device, 'connected');
  });

  describe('a black hole', () => {
    let hole: Server;
    const sockets = new Set<Socket>();

    beforeEach(async () => {
      hole = createServer((socket) => {
        sockets.add(socket);
        socket.resume();
        socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
      });
      await once(hole.listen(0, '127.0.0.1'), 'listening');
    });
    afterEach(() => {
      for (const socket of sockets) socket.destroy();
      hole.close();
    });

    test('that takes connections and never speaks is given up, and leaves no socket behind', async () => {
      const { port } = hole.address() as { port: number };
      const device = keep(
        await connectDevice({
          ...wire,
          address: `127.0.0.1:${port}`,
          clientId: 'pump-7',
          waitForWelcome: false,
          connectTimeoutMs: 50,
          backoff: { minMs: 1, maxMs: 1 },
        }),
      );
      expect(await reached(device, 'waiting')).toMatchObject({ reason: 'no welcome within 50 ms' });
      const socket = ([...sockets][0] ?? (await once(hole, 'connection'))[0]) as Socket;
      if (!socket.closed) await once(socket, 'close');
      await device.close();
      expect(device.state.kind).toBe('closed');
    });
  });

  test('a hub whose process dies is found again, and goes on with what was not acknowledged', async () => {
    const first = await ScriptedHub.start();
    const connecting = connectDevice({
      ...wire,
      address: first.address,
      clientId: 'pump-7',
      backoff: { minMs: 10, maxMs: 50 },
    });
    const before = await first.stream();
    await before.welcome();
    const device = keep(await connecting);
    device.handle(echo, () => 'done', { result: echo });
    before.command({ id: 'c1', payload: { type: echo.type, value: text('x') } });
    await before.next('result');
    const emitted = device.emit('door.opened', { door: 1 });
    await before.next('event');
    await first[Symbol.asyncDispose]();
    await reached(device, 'waiting');
    await using second = await ScriptedHub.start(first.address);
    const after = await second.stream();
    const hello = await after.welcome();
    expect(hello.inFlight).toEqual(['c1']);
    expect(await after.next('result')).toMatchObject({ commandId: 'c1', seq: 1 });
    expect(await after.next('event')).toMatchObject({ name: 'door.opened', json: '{"door":1}', number: 1, seq: 2 });
    after.ack();
    await emitted;
  });

  test('a stream that is never read holds a bounded number of frames', async () => {
    await using hub = await ScriptedHub.start();
    const connecting = connectDevice({
      ...wire,
      address: hub.address,
      clientId: 'pump-7',
      maxBufferedBytes: 2_000_000,
    });
    const stream = await hub.stream();
    await stream.welcome();
    const device = keep(await connecting);
    stream.pause();
    const outcomes: Promise<string>[] = [];
    for (let i = 0; i < 100; i++)
      outcomes.push(
        device.emit('big', 'x'.repeat(100_000)).then(
          () => 'taken',
          (error) => error.code,
        ),
      );
    const refused = (await Promise.race([Promise.all(outcomes.slice(20)), reached(device, 'closed')])) as string[];
    expect(new Set(refused)).toEqual(new Set(['resource-exhausted']));
    stream.resume();
    for (let i = 0; i < 20; i++) await stream.next('event');
    stream.ack();
    expect(new Set(await Promise.all(outcomes.slice(0, 20)))).toEqual(new Set(['taken']));
  });

  describe('a device in a process of its own', () => {
    const program = join(import.meta.dirname, 'killed-device.ts');

    function start(address: string): { exited: Promise<unknown>; said: Readable; kill(): void } {
      const child = spawn(
        process.execPath,
        [program, address, join(directory, 'journal'), join(directory, 'effects')],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      return { exited: once(child, 'exit'), said: child.stdout, kill: () => child.kill('SIGKILL') };
    }
    const effects = (): string[] => readFileSync(join(directory, 'effects'), 'utf8').trim().split('\n');

    test('keeps its process alive while it waits for the next attempt', async () => {
      const gone = await ScriptedHub.start();
      await gone[Symbol.asyncDispose]();
      const device = start(gone.address);
      let waits = 0;
      for await (const line of createInterface(device.said)) if (line === 'waiting' && ++waits === 2) break;
      expect(waits).toBe(2);
      device.kill();
      await device.exited;
    });

    test('that is killed tells of what it was doing, and runs nothing twice', async () => {
      await using hub = await ScriptedHub.start();
      const first = start(hub.address);
      first.said.resume();
      const before = await hub.stream();
      const hello = await before.welcome();
      before.command({ id: 'done' });
      await before.next('result');
      before.command({ id: 'hang-once' });
      before.command({ id: 'hang-again', idempotent: true });
      await before.next('started');
      await before.next('started');
      first.kill();
      await first.exited;

      const second = start(hub.address);
      second.said.resume();
      const after = await hub.stream();
      const again = await after.welcome();
      expect(again.journalId).toBe(hello.journalId);
      expect(again.bootId).not.toBe(hello.bootId);
      expect(again.inFlight.toSorted()).toEqual(['done', 'hang-once']);
      expect(await after.next('result')).toMatchObject({
        commandId: 'done',
        state: CommandState.COMMAND_STATE_SUCCEEDED,
      });
      expect(await after.next('result')).toMatchObject({
        commandId: 'hang-once',
        state: CommandState.COMMAND_STATE_UNKNOWN,
        error: { code: 'interrupted' },
      });
      after.ack();
      // The hub may send all of them again: only what may be repeated is.
      for (const id of ['done', 'hang-once', 'hang-again']) after.command({ id, idempotent: id === 'hang-again' });
      expect(await after.next('started')).toMatchObject({ commandId: 'hang-again' });
      const answers = after.frames.flatMap(({ body }) => (body?.$case === 'result' ? [body.value.commandId] : []));
      expect(answers.toSorted()).toEqual(['done', 'done', 'hang-once', 'hang-once']);
      expect(effects()).toEqual(['done', 'hang-once', 'hang-again', 'hang-again']);
      second.kill();
      await second.exited;
    });

    test('that is killed at any moment: no command ever has its effect twice', async () => {
      await using hub = await ScriptedHub.start();
      const answered = new Map<string, number>();
      const ids = Array.from({ length: 12 }, (_, i) => `cmd-${i}`);
      for (let round = 0; answered.size < ids.length; round++) {
        const device = start(hub.address);
        device.said.resume();
        const stream = await hub.stream();
        await stream.welcome();
        // Everything without an answer is sent again, as if the hub knew nothing.
        for (const id of ids) if (!answered.has(id)) stream.command({ id });
        for (let taken = 0; taken < 4 && answered.size < ids.length; ) {
          const { commandId, state } = await stream.next('result');
          if (answered.has(commandId)) continue;
          answered.set(commandId, state);
          taken++;
        }
        if (round % 2 === 0) stream.ack();
        device.kill();
        await device.exited;
      }
      const counts = Map.groupBy(effects(), (id) => id);
      for (const [id, state] of answered) {
        const runs = counts.get(id)?.length ?? 0;
        expect([id, runs <= 1]).toEqual([id, true]);
        if (state === CommandState.COMMAND_STATE_SUCCEEDED) expect([id, runs]).toEqual([id, 1]);
      }
    });
  });
});
