import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { type EventLog, StepChannel } from '../../src/events/event-log.ts';
import { CommandTrail, endStep } from '../../src/hub/command-trail.ts';
import { type CommandStore, Hub } from '../../src/hub/index.ts';
import { collect, scriptedDevice, testCommand, virtualClock } from '../../src/testing/index.ts';
import { addOptions, failed, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

const queued = () => testCommand({ whenOffline: 'queue', timeoutMs: 0 });

async function eventsOf(log: EventLog, channel: string): Promise<string[]> {
  const { events, gap } = await log.read(`default/${channel}`, { epoch: log.epoch, seq: 0 }, 1000);
  const types = events.map(({ type, seq }) => `${seq} ${type}`);
  return gap?.kind === 'gap' ? [`${gap.from} lost`, ...types] : types;
}

async function setUp(change: (commands: CommandStore) => CommandStore = (commands) => commands) {
  const directory = emptyDirectory();
  const store = await openStore(directory);
  const clock = virtualClock();
  const hub = new Hub({ clock, log: store.log, commands: change(store.commands) });
  onTestFinished(() => hub.close());
  const device = scriptedDevice(hub);
  await device.hello();
  const disk = new Sqlite(join(directory, 'signalbox.db'), { readonly: true });
  onTestFinished(() => void disk.close());
  const onDisk = (type: string) => disk.prepare('SELECT count(*) FROM events WHERE type = ?').pluck().get(type);
  return { hub, clock, store, device, onDisk };
}

test('whoever hears how a queued command ended finds the event of it on the disk: both are one write', async () => {
  const { hub, device, onDisk } = await setUp();
  const updates = collect(hub.send(queued()));
  device.succeed((await device.command()).id);
  await updates;
  expect(onDisk('command.succeeded')).toBe(1);
});

test('the end is told once on each channel, also on one that is first read while the end is being stored', async () => {
  const { hub, device, store, onDisk } = await setUp();
  const updates = collect(hub.send(queued()));
  const { id } = await device.command();
  device.succeed(id);
  expect(await eventsOf(store.log, `command.${id}`)).toEqual([
    '1 command.queued',
    '2 command.sent',
    '3 command.delivered',
  ]);
  await updates;
  expect((await eventsOf(store.log, `command.${id}`)).slice(3)).toEqual(['4 command.succeeded']);
  const ofClient = ['1 client.connected', '2 command.queued', '3 command.sent', '4 command.delivered'];
  expect(await eventsOf(store.log, 'client.pump-7')).toEqual([...ofClient, '5 command.succeeded']);
  expect(onDisk('command.succeeded')).toBe(1);
});

test('where both could not be written in one, the end is stored and then told, once', async () => {
  let tries = 0;
  const { hub, clock, device, store, onDisk } = await setUp((commands) => ({
    ...commands,
    teller: {
      ...commands.teller!,
      finish: () => {
        tries++;
        return Promise.reject(new HubError('unavailable', 'the disk has failed'));
      },
    },
  }));
  const updates = collect(hub.send(queued()));
  device.succeed((await device.command()).id);
  await expect.poll(() => tries).toBe(1);
  await clock.advance(1000);
  expect((await updates).at(-1)).toMatchObject({ state: 'succeeded' });
  await expect.poll(() => onDisk('command.succeeded')).toBe(1);
  expect((await eventsOf(store.log, 'client.pump-7')).filter((event) => event.endsWith('succeeded'))).toHaveLength(1);
  expect(tries).toBe(1);
});

test('an end that comes second changes nothing, and leaves a hole that is told', async () => {
  const { store, onDisk } = await setUp();
  const command = queuedCommand();
  const { commands, log } = store;
  await commands.add(command, addOptions());
  const channel = new StepChannel('default/client.pump-1');
  const finish = (end: ReturnType<typeof succeeded>) => {
    const source = new CommandTrail(command.id, command.clientId, 't', 1000, undefined);
    source.foresee(end);
    return commands.teller!.finish(end, { channel, source, step: endStep });
  };
  const first = succeeded(command);
  expect(await finish(first)).toBe(first);
  expect(await finish(failed(command))).toEqual(first);
  await log.append('default/client.pump-1', { type: 'x.after', atMs: 1, data: 1, durable: true });
  expect(await eventsOf(log, 'client.pump-1')).toEqual(['1 command.succeeded']);
  const { events, gap } = await log.read(channel.key, { epoch: log.epoch, seq: 1 }, 10);
  expect(gap).toMatchObject({ from: 2, to: 2 });
  expect(events.map(({ type }) => type)).toEqual(['x.after']);
  expect([onDisk('command.succeeded'), onDisk('command.failed')]).toEqual([1, 0]);
  await expect(finish(succeeded(queuedCommand()))).rejects.toMatchObject({ message: expect.any(String) });
});
