import { expect, test } from 'vitest';
import { EndedCommands } from '../../src/hub/ended-commands.ts';
import { PendingCommand } from '../../src/hub/pending-command.ts';
import type { Command, CommandUpdate } from '../../src/protocol/command.ts';
import { testCommand } from '../../src/testing/index.ts';

type End = { result: Uint8Array } | { code: string; message: string };

function ended(some: Partial<Command>, end: End, progress = false): PendingCommand {
  const position = some.whenOffline === 'queue' ? 2 ** 40 + 1 : undefined;
  const pending = new PendingCommand(
    testCommand(some),
    { acceptedAtMs: 1_000, monotonic: 0, position },
    () => undefined,
  );
  const base = { commandId: pending.id, clientId: pending.command.clientId };
  pending.reach('sent', 1_001);
  pending.reach('started', 1_003);
  if (progress) pending.tell({ ...base, atMs: 1_004, state: 'progress', progress: { fraction: 0.5 } });
  const update: CommandUpdate =
    'result' in end
      ? { ...base, atMs: 1_007, state: 'succeeded', result: { type: 'r', value: end.result } }
      : { ...base, atMs: 1_007, state: 'failed', error: end };
  pending.tell(update);
  return pending;
}

const seen = ({ command, acceptedAtMs, last, state, hasEnded, position, wasFound }: PendingCommand) => ({
  command: { ...command, payload: { ...command.payload, value: [...command.payload.value] } },
  acceptedAtMs,
  last,
  state,
  hasEnded,
  position,
  wasFound,
});

const kinds: [string, PendingCommand][] = [
  [
    'a result',
    ended({ id: 'a', payload: { type: 't', value: new Uint8Array([1, 2]) } }, { result: new Uint8Array([3]) }),
  ],
  ['an empty result', ended({ id: 'b' }, { result: new Uint8Array(0) })],
  ['an error', ended({ id: 'c' }, { code: 'jammed', message: 'the valve is stuck' })],
  ['an error that has other than Latin letters', ended({ id: 'd' }, { code: 'teuer', message: 'der Preis ist 5 €' })],
  [
    'every option',
    ended(
      {
        id: 'e',
        idempotent: true,
        idempotencyKey: 'k',
        orderingKey: 'o',
        traceparent: '00-1-2-01',
        waitForConnectMs: 7,
      },
      { result: new Uint8Array(100) },
    ),
  ],
  [
    'every option of a queued one',
    ended(
      { id: 'q', whenOffline: 'queue', idempotencyKey: 'k', orderingKey: 'o', coalesceKey: 'c', ttlMs: 8 },
      { result: new Uint8Array(100) },
    ),
  ],
  [
    'an end that was found in the store',
    Object.assign(ended({ id: 'w', whenOffline: 'queue' }, { code: 'x', message: '' }), { wasFound: true }),
  ],
  ['progress', ended({ id: 'f' }, { result: new Uint8Array(1) }, true)],
  [
    'a large payload',
    ended({ id: 'g', payload: { type: 't', value: new Uint8Array(100_000) } }, { code: 'x', message: '' }),
  ],
  ['a longer time limit than 24 days', ended({ id: 'h', timeoutMs: 3e10 }, { code: 'x', message: '' })],
];

test.each(kinds)('a command with %s comes back as it was, with its history', (_, pending) => {
  const commands = new EndedCommands();
  commands.add(pending);
  const back = commands.get(pending.id, pending.hash)!;
  expect(seen(back)).toEqual(seen(pending));
  expect(back.history()).toEqual(pending.history());
  expect([...commands].map(({ id }) => id)).toEqual([pending.id]);
});

test('a plain one is not kept as an object, live or queued; one with progress is', () => {
  const commands = new EndedCommands();
  const plain = ended({ id: 'plain' }, { result: new Uint8Array(1) });
  const queued = ended({ id: 'queued', whenOffline: 'queue' }, { result: new Uint8Array(1) });
  const told = ended({ id: 'told' }, { result: new Uint8Array(1) }, true);
  commands.add(plain);
  commands.add(queued);
  commands.add(told);
  expect(commands.get('plain', plain.hash)).not.toBe(plain);
  expect(commands.get('queued', queued.hash)).not.toBe(queued);
  expect(commands.get('told', told.hash)).toBe(told);
});

test('each of many is found, nothing else is, and nothing at all once it is cleared', () => {
  const commands = new EndedCommands();
  for (let round = 0; round < 2; round++) {
    const all = Array.from({ length: 3000 }, (_, i) =>
      ended({ id: `${round}-${i}` }, { result: new Uint8Array(i % 200) }),
    );
    for (const pending of all) commands.add(pending);
    expect(commands.size).toBe(3000);
    for (const pending of all) {
      const { last } = commands.get(pending.id, pending.hash)!;
      expect(last.state === 'succeeded' && last.result.value.length).toBe(Number(pending.id.split('-')[1]) % 200);
    }
    const other = ended({ id: `${1 - round}-5` }, { result: new Uint8Array(0) });
    expect(commands.get(other.id, other.hash)).toBe(undefined);
    expect(new Set([...commands].map(({ id }) => id)).size).toBe(3000);
    commands.clear();
    expect(commands.size).toBe(0);
    expect(commands.get(all[0]!.id, all[0]!.hash)).toBe(undefined);
    expect([...commands]).toEqual([]);
  }
});

test('ids of one hash are told apart', () => {
  const commands = new EndedCommands();
  const two = ['x', 'y'].map((id) => Object.assign(ended({ id }, { code: id, message: '' }), { hash: 7 }));
  for (const pending of two) commands.add(pending);
  for (const { id } of two) expect(commands.get(id, 7)!.last).toMatchObject({ error: { code: id } });
  expect(commands.get('z', 7)).toBe(undefined);
});
