import { afterEach, beforeEach, expect, test } from 'vitest';
import { memoryEventLog } from '../../src/events/index.ts';
import { type CommandStore, Hub, type StoredCommand } from '../../src/hub/index.ts';
import type { TerminalUpdate } from '../../src/protocol/command.ts';
import { testCommand } from '../../src/testing/index.ts';
import { TestCluster, type TestNode } from './cluster.ts';

// What ends at one node, told at another: of clients that are away, either may find that their commands' time is over.

const log = () => memoryEventLog({ clock: cluster.clock });
let cluster: TestCluster;
let here: TestNode;
/** What the node `here` is told by the store of commands whose time is over. */
let dueHere: (found: StoredCommand[]) => Promise<StoredCommand[]>;
let isEmpty = false;

beforeEach(() => {
  cluster = new TestCluster();
  dueHere = async () => [];
  isEmpty = false;
});
afterEach(() => cluster.close());

async function open(options: { shared: ReturnType<typeof log> }): Promise<void> {
  const { commands, clock } = cluster;
  const store = new Proxy(commands, {
    get(target, name: keyof CommandStore) {
      if (name === 'due') return async (...args: Parameters<CommandStore['due']>) => dueHere(await target.due(...args));
      if (name === 'get') return async (id: string) => (isEmpty ? undefined : target.get(id));
      const value: unknown = target[name];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const membership = await cluster.membership('here');
  here = cluster.attach(
    'here',
    new Hub({ clock, commands: store, node: 'here', claims: membership, log: options.shared }),
    membership,
  );
}

async function openOther(options: { shared: ReturnType<typeof log> }): Promise<TestNode> {
  const membership = await cluster.membership('other');
  const { commands, clock } = cluster;
  return cluster.attach(
    'other',
    new Hub({ clock, commands, node: 'other', claims: membership, log: options.shared }),
    membership,
  );
}

/** Ends told to callers at `here`, in a list that grows. */
function send(count: number, ttlMs: number): TerminalUpdate[] {
  const told: TerminalUpdate[] = [];
  for (let i = 0; i < count; i++)
    void here.road.settle(testCommand({ whenOffline: 'queue', ttlMs }), (end) => told.push(end));
  return told;
}

async function eventsOf(shared: ReturnType<typeof log>, type: string): Promise<number> {
  const { events } = await shared.read('default/client.pump-7', { epoch: 0, seq: 0 }, 10_000);
  return events.filter((event) => event.type === type).length;
}

test('what expires at another node is told to all who wait here, however many, and once to those who watch', async () => {
  const shared = log();
  await open({ shared });
  await openOther({ shared });
  const told = send(600, 60_000);
  const later = send(300, 3_600_000);
  await cluster.clock.advance(59_000);
  expect(await eventsOf(shared, 'command.queued')).toBe(900);
  expect(told).toHaveLength(0);
  // One look of the other node, and one of this one.
  for (let i = 0; i < 3; i++) await cluster.clock.advance(1000);
  expect(told).toHaveLength(600);
  expect(new Set(told.map(({ state }) => state))).toEqual(new Set(['expired']));
  expect(later).toHaveLength(0);
  expect(await eventsOf(shared, 'command.expired')).toBe(600);
});

test('what two nodes end at the same time has one end, and is told once to those who watch', async () => {
  const shared = log();
  await open({ shared });
  let goOn: () => void = () => undefined;
  const othersEnd = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const looked = new Promise<void>((resolve) => {
    dueHere = async (found) => {
      if (found.length === 0) return found;
      resolve();
      await othersEnd;
      return found;
    };
  });
  const told = send(3, 10_000);
  await cluster.soon(looked);
  const other = await openOther({ shared });
  await cluster.clock.advance(1001);
  expect(await eventsOf(shared, 'command.expired')).toBe(3);
  goOn();
  await cluster.clock.advance(1000);
  expect(told).toHaveLength(3);
  expect(await eventsOf(shared, 'command.expired')).toBe(3);
  for (const { commandId, atMs } of told)
    expect(await other.road.get('default', commandId)).toMatchObject({ last: { state: 'expired', atMs } });
});

test('all who wait for queued commands that the store has lost are told, also where they are many', async () => {
  await open({ shared: log() });
  const told = send(600, 3_600_000);
  await cluster.clock.advance(1000);
  isEmpty = true;
  for (let i = 0; i < 9; i++) await cluster.clock.advance(1000);
  expect(told).toHaveLength(600);
  expect(new Set(told.map(({ state }) => state))).toEqual(new Set(['unknown']));
});
