import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  fileJournal,
  type Journal,
  type JournalEntry,
  type JournalFact,
  memoryJournal,
} from '../../src/device/index.ts';
import { text } from './tools.ts';

let directory: string;
let path: string;
const journals: Journal[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'signalbox-journal-'));
  path = join(directory, 'journal.log');
});
afterEach(async () => {
  for (const journal of journals.splice(0)) await journal.close();
  rmSync(directory, { recursive: true });
});

function open(options: Parameters<typeof fileJournal>[1] = {}): Journal {
  const journal = fileJournal(directory, options);
  journals.push(journal);
  return journal;
}

/** Leaves a file as a crash would: everything that was promised is in it. */
async function reopened(journal: Journal, options: Parameters<typeof fileJournal>[1] = {}): Promise<Journal> {
  await journal.close();
  return open(options);
}

const brief = ({ commandId, state, result }: JournalEntry): string =>
  `${commandId} ${state} ${result ? Buffer.from(result).toString() : '-'}`;

describe.each([
  ['memory', () => memoryJournal({ maxEntries: 3, maxResultBytes: 10 })],
  ['file', () => open({ maxEntries: 3, maxResultBytes: 10 })],
])('a journal in %s', (_, make) => {
  test('knows what was begun, finished and acknowledged', async () => {
    const journal = make();
    await journal.begin('a', { idempotent: true });
    await journal.begin('b', { idempotent: false });
    await journal.begin('c', { idempotent: false });
    await journal.finish('b', text('B'));
    await journal.finish('c', text('C'));
    await journal.retire(['c']);
    expect(journal.unacknowledged().map(brief)).toEqual(['a begun -', 'b finished B']);
    expect(journal.lookup('a')).toMatchObject({ state: 'begun', idempotent: true });
    expect(brief(journal.lookup('c') as JournalEntry)).toBe('c acknowledged C');
    expect(journal.lookup('d')).toBeUndefined();
  });

  test('forgets a begun entry that is retired', async () => {
    const journal = make();
    await journal.begin('a', { idempotent: true });
    await journal.retire(['a', 'unheard-of']);
    expect(journal.lookup('a')).toBeUndefined();
    expect(journal.unacknowledged()).toEqual([]);
  });

  test('keeps the newest acknowledged ids, and of them the newest results', async () => {
    const journal = make();
    for (const id of ['a', 'b', 'c', 'd']) {
      await journal.begin(id, { idempotent: false });
      await journal.finish(id, text(`${id}....`));
      await journal.retire([id]);
    }
    expect(['a', 'b', 'c', 'd'].map((id) => journal.lookup(id)).map((entry) => entry && brief(entry))).toEqual([
      undefined,
      'b acknowledged -',
      'c acknowledged c....',
      'd acknowledged d....',
    ]);
  });

  test('has a limit that must make sense', () => {
    expect(() => memoryJournal({ maxEntries: -1 })).toThrow(/maxEntries -1/);
  });
});

test('memory journals are never of the same lineage', () => {
  expect(memoryJournal().id).not.toBe(memoryJournal().id);
});

describe('a journal file', () => {
  test('is the same after it was closed and opened again', async () => {
    const journal = open();
    await journal.begin('a', { idempotent: false });
    await journal.begin('b', { idempotent: false });
    await journal.finish('b', text('B'));
    const again = await reopened(journal);
    expect(again.id).toBe(journal.id);
    expect(again.unacknowledged().map(brief)).toEqual(['a begun -', 'b finished B']);
  });

  test('can be read by its owner only', () => {
    open();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('is used by one at a time', async () => {
    const journal = open();
    expect(() => open()).toThrow(
      expect.objectContaining({ code: 'unavailable', message: expect.stringContaining('journal.lock') }),
    );
    await journal.close();
    open();
  });

  test('is taken over from a process that is gone, or that had our number in an earlier life', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    writeFileSync(join(directory, 'journal.lock'), JSON.stringify({ pid: child.pid, started: '1' }));
    await open().close();
    writeFileSync(join(directory, 'journal.lock'), JSON.stringify({ pid: process.pid, started: '1' }));
    await open().close();
    writeFileSync(join(directory, 'journal.lock'), '{"pid":');
    await open().close();
  });

  test('is not taken from a process that lives', () => {
    writeFileSync(join(directory, 'journal.lock'), JSON.stringify({ pid: process.ppid, started: '' }));
    expect(() => open()).toThrow(new RegExp(`process ${process.ppid}`));
  });

  test.each([1, 5, 18])('loses its last %i bytes: the write that was cut off is taken out, and told', async (cut) => {
    const journal = open();
    await journal.begin('a', { idempotent: false });
    await journal.begin('b', { idempotent: false });
    await journal.close();
    truncateSync(path, statSync(path).size - cut);
    const facts: JournalFact[] = [];
    const again = open({ observe: (fact) => facts.push(fact) });
    expect(again.unacknowledged().map(brief)).toEqual(['a begun -']);
    expect(facts).toMatchObject([{ kind: 'journal-truncated' }]);
    await again.begin('c', { idempotent: false });
    expect((await reopened(again)).unacknowledged().map(brief)).toEqual(['a begun -', 'c begun -']);
  });

  test.each([
    ['zeros', Buffer.alloc(4096)],
    ['noise', Buffer.from([0xb7, 0xff, 0xff, 0xff, 0x00, 1, 2, 3, 0xb7, 0xb7])],
  ])('has %s at its end: they are taken out', async (_, tail) => {
    const journal = open();
    await journal.begin('a', { idempotent: false });
    await journal.close();
    appendFileSync(path, tail);
    expect(open().unacknowledged().map(brief)).toEqual(['a begun -']);
  });

  test('is damaged in the middle: nothing is guessed, and the error says what to do', async () => {
    const journal = open();
    for (const id of ['a', 'b', 'c']) await journal.begin(id, { idempotent: false });
    await journal.close();
    const bytes = readFileSync(path);
    bytes[60] = (bytes[60] as number) ^ 0xff;
    writeFileSync(path, bytes);
    expect(() => open()).toThrow(/damaged at byte 54 .* move it away/);
    // And the lock is free again.
    writeFileSync(path, '');
    open();
  });

  test('that is something else is not overwritten', () => {
    writeFileSync(path, 'x'.repeat(1000));
    expect(() => open()).toThrow(/damaged at byte 0/);
    expect(readFileSync(path, 'utf8')).toBe('x'.repeat(1000));
  });

  test('shares one write between begins that come together', async () => {
    const journal = open();
    await Promise.all(Array.from({ length: 500 }, (_, i) => journal.begin(`c${i}`, { idempotent: false })));
    expect((await reopened(journal)).unacknowledged()).toHaveLength(500);
  });

  test('is written anew when it is mostly of the past, and says the same', async () => {
    const facts: JournalFact[] = [];
    const options = { maxEntries: 5, compactBytes: 2000, observe: (fact: JournalFact) => facts.push(fact) };
    const journal = open(options);
    await journal.begin('open', { idempotent: true });
    for (let i = 0; i < 200; i++) {
      await journal.begin(`c${i}`, { idempotent: false });
      await journal.finish(`c${i}`, text(`r${i}`));
      await journal.retire([`c${i}`]);
    }
    expect(facts.length).toBeGreaterThan(2);
    expect(statSync(path).size).toBeLessThan(3000);
    const again = await reopened(journal, options);
    expect(again.id).toBe(journal.id);
    expect(again.unacknowledged().map(brief)).toEqual(['open begun -']);
    expect(again.lookup('open')?.idempotent).toBe(true);
    expect(['c194', 'c195', 'c199'].map((id) => again.lookup(id)).map((entry) => entry && brief(entry))).toEqual([
      undefined,
      'c195 acknowledged r195',
      'c199 acknowledged r199',
    ]);
  });

  test('that is closed takes nothing more', async () => {
    const journal = open();
    await journal.close();
    await journal.close();
    await expect(journal.begin('a', { idempotent: false })).rejects.toMatchObject({ code: 'unavailable' });
  });
});

type Step =
  | { kind: 'begin'; id: number; idempotent: boolean }
  | { kind: 'finish'; id: number; size: number }
  | { kind: 'retire'; ids: number[] }
  | { kind: 'reopen' }
  | { kind: 'crash'; torn: number };

test('any order of begins, ends, retirements, crashes and restarts leaves what was promised', async () => {
  const id = fc.nat(12);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('begin' as const), id, idempotent: fc.boolean() }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('finish' as const), id, size: fc.nat(40) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('retire' as const), ids: fc.array(id, { maxLength: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), torn: fc.integer({ min: 1, max: 60 }) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      rmSync(path, { force: true });
      const options = { maxEntries: 4, maxResultBytes: 100, compactBytes: 400, fsync: false };
      // The memory journal is the model; what the file says after any restart has to be the same.
      const model = memoryJournal(options);
      let journal = fileJournal(directory, options);
      const lineage = journal.id;
      try {
        for (const action of steps) {
          switch (action.kind) {
            case 'begin': {
              const commandId = `c${action.id}`;
              if (model.lookup(commandId)) break;
              await Promise.all([journal, model].map((j) => j.begin(commandId, { idempotent: action.idempotent })));
              break;
            }
            case 'finish': {
              const commandId = `c${action.id}`;
              if (model.lookup(commandId)?.state !== 'begun') break;
              const result = new Uint8Array(action.size).fill(action.id);
              await Promise.all([journal, model].map((j) => j.finish(commandId, result)));
              break;
            }
            case 'retire': {
              const ids = action.ids.map((n) => `c${n}`);
              await Promise.all([journal, model].map((j) => j.retire(ids)));
              break;
            }
            case 'reopen':
              await journal.close();
              journal = fileJournal(directory, options);
              break;
            case 'crash':
              // A write that was begun, never promised, and cut off.
              await journal.close();
              appendFileSync(path, Buffer.concat([Buffer.from([0xb7]), Buffer.alloc(action.torn, 7)]));
              journal = fileJournal(directory, options);
              break;
            default:
              action satisfies never;
          }
          expect(journal.unacknowledged().map(brief)).toEqual(model.unacknowledged().map(brief));
        }
        await journal.close();
        journal = fileJournal(directory, options);
        expect(journal.id).toBe(lineage);
        expect(journal.unacknowledged().map(brief)).toEqual(model.unacknowledged().map(brief));
        for (let i = 0; i <= 12; i++) expect(journal.lookup(`c${i}`)).toEqual(model.lookup(`c${i}`));
      } finally {
        await journal.close();
      }
    }),
    { numRuns: 60 },
  );
});
