import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import type { LogEvent } from '../../src/events/event-log.ts';
import { EventReader } from '../../src/events/event-reader.ts';
import { openSqlite } from '../../src/sqlite/index.ts';
import { succeeded } from '../contracts/command-store.ts';
import { checkSequence, newEvent, pollAll, readAll, start } from '../contracts/event-log.ts';
import { emptyDirectory, openStore } from './data-directory.ts';

const writer = fileURLToPath(new URL('./busy-writer.ts', import.meta.url));

/** What the writer was told is on disk. */
class Ledger {
  readonly added = new Set<number>();
  readonly finished = new Set<number>();
  readonly events = new Set<number>();
  readonly epochs: number[] = [];
  readonly words: string[] = [];

  note(line: string): void {
    const [word, value] = line.split(' ');
    if (word === 'added') this.added.add(Number(value));
    else if (word === 'finished') this.finished.add(Number(value));
    else if (word === 'event') this.events.add(Number(value));
    else if (word === 'epoch') this.epochs.push(Number(value));
    else this.words.push(line);
  }
}

function owned(child: ChildProcess): ChildProcess {
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function check(directory: string, ledger: Ledger): Promise<void> {
  const { commands, log, close } = await openSqlite({ directory });
  for (const n of ledger.added) expect((await commands.get(`c-${n}`))?.command.id).toBe(`c-${n}`);
  for (const n of ledger.finished) {
    const stored = await commands.get(`c-${n}`);
    expect(stored?.last).toEqual(succeeded(stored!.command));
  }
  const { numbers } = await readAll(log, 't/a');
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  const found = new Set(numbers);
  expect([...ledger.events].filter((n) => !found.has(n))).toEqual([]);
  expect(await log.lastFrom('t/a', 'boot')).toBeGreaterThanOrEqual(Math.max(0, ...ledger.events));
  await close();
}

test('whatever was acknowledged can be read after kill -9, and the directory is free at once', async () => {
  const directory = emptyDirectory();
  const ledger = new Ledger();
  for (let round = 0; round < 4; round++) {
    const child = owned(
      spawn(process.execPath, [writer, directory, String(1 + round * 100_000)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    );
    let lines = 0;
    for await (const line of createInterface({ input: child.stdout! })) {
      ledger.note(line);
      // The lines that are still in the pipe count as well.
      if (++lines === 40 + round * 37) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    expect(child.signalCode).toBe('SIGKILL');
    await check(directory, ledger);
  }
  expect(ledger.words).toEqual([]);
  expect(ledger.epochs).toEqual([...new Set(ledger.epochs)].sort((a, b) => a - b));
});

test('after a write error nothing is acknowledged any more, and all that was can be read', async () => {
  const directory = emptyDirectory();
  const ledger = new Ledger();
  // A limit of file size makes writes fail with EFBIG, which SQLite takes for a failing disk.
  const script = `trap '' XFSZ; ulimit -f 1200; exec "$0" "$@"`;
  const child = owned(
    spawn('sh', ['-c', script, process.execPath, writer, directory, '1'], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  let failedAt = '';
  for await (const line of createInterface({ input: child.stdout! })) {
    if (failedAt && !line.startsWith('refused')) throw new Error(`acknowledged after the failure: ${line}`);
    if (line.startsWith('fact disk-failed')) failedAt = line;
    ledger.note(line);
  }
  expect(failedAt).toMatch(/IOERR|disk I\/O error/);
  const refused = ledger.words.filter((line) => line.startsWith('refused'));
  expect(refused).toHaveLength(3);
  for (const line of refused) expect(line).toMatch(/HubError: .*Nothing is accepted until a restart/);
  expect(ledger.added.size).toBeGreaterThan(10);
  await check(directory, ledger);
});

test('a subscriber that resumes over restarts sees every durable event once, and a word where anything is missing', async () => {
  const append = fc.record({
    kind: fc.constant('append' as const),
    count: fc.integer({ min: 1, max: 7 }),
    pattern: fc.nat(8),
  });
  const read = fc.record({ kind: fc.constant('read' as const), size: fc.integer({ min: 1, max: 9 }) });
  const cut = fc.record({ kind: fc.constant('cut' as const) });
  const restart = fc.record({ kind: fc.constant('restart' as const) });
  const steps = fc.array(
    fc.oneof(
      { weight: 5, arbitrary: append },
      { weight: 4, arbitrary: read },
      { weight: 1, arbitrary: cut },
      { weight: 2, arbitrary: restart },
    ),
    { minLength: 8, maxLength: 20 },
  );
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 6 }), async (plan, ringEvents) => {
      const directory = emptyDirectory();
      const open = () => openSqlite({ directory, memory: { ringEvents } });
      const channels = ['t/a', 't/b'];
      const durable = new Set<number>();
      const seen: LogEvent[] = [];
      let n = 0;
      let store = await open();
      let reader = new EventReader(store.log, { channels, from: 'start' });
      // A subscriber that never read anything has no place: `start` is whatever is kept when it does.
      await reader.poll(1);
      for (const step of plan) {
        if (step.kind === 'append') {
          const writes = [];
          for (let i = 0; i < step.count; i++) {
            const isDurable = (++n + step.pattern) % 3 !== 0;
            if (isDurable) durable.add(n);
            writes.push(store.log.append('t/a', newEvent(n, { durable: isDurable })));
          }
          await Promise.all(writes);
        } else if (step.kind === 'read') {
          seen.push(...(await reader.poll(step.size)));
        } else {
          const from = reader.cursor();
          reader.close();
          if (step.kind === 'restart') {
            await store.close();
            store = await open();
          }
          reader = new EventReader(store.log, { channels, from });
        }
      }
      seen.push(...(await pollAll(reader, 4)));
      await store.close();
      checkSequence(seen, 1, n, durable);
    }),
    { numRuns: 10 },
  );
});

test('a full database refuses with what to do, still answers reads, and goes on by itself when there is room', async () => {
  const facts: string[] = [];
  const { commands, log } = await openStore(emptyDirectory(), {
    maxDatabaseBytes: 400_000,
    maxEvents: 5,
    pruneEveryMs: 50,
    observe: (fact) => facts.push(fact.kind),
  });
  const writes = Array.from({ length: 200 }, (_, i) =>
    log.append(`t/a${i % 2}`, newEvent(i, { durable: true, data: { n: i, text: 'x'.repeat(4000) } })),
  );
  const results = await Promise.allSettled(writes);
  const refused = results.filter(({ status }) => status === 'rejected');
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]).toMatchObject({
    reason: { code: 'unavailable', message: expect.stringMatching(/full.*free disk space/) },
  });
  expect(await commands.count()).toBe(0);
  expect(facts[0]).toBe('disk-failed');
  await expect
    .poll(() => Promise.resolve(log.append('t/b', newEvent(1, { durable: true }))).then(() => 'kept', String))
    .toBe('kept');
  expect(facts).toContain('disk-recovered');
  expect((await log.read('t/b', start, 10)).events.length).toBe(1);
});

test('calls beyond what may wait for the disk are refused with a time to come back', async () => {
  const { log } = await openStore(':memory:', { maxWaitingCalls: 10 });
  const writes = Array.from({ length: 30 }, (_, i) => log.append('t/a', newEvent(i, { durable: true })));
  const results = await Promise.allSettled(writes);
  expect(results.map(({ status }) => status)).toEqual([...Array(10).fill('fulfilled'), ...Array(20).fill('rejected')]);
  expect(results[20]).toMatchObject({ reason: { code: 'unavailable', retryAfterMs: 1000 } });
  expect((await readAll(log, 't/a')).numbers).toHaveLength(10);
});

test('of large events only a few are read from the disk at once, and nothing is missing', async () => {
  const { log } = await openStore(':memory:', { memory: { ringEvents: 2 } });
  const text = 'x'.repeat(100_000);
  const count = 60;
  for (let i = 1; i <= count; i++) await log.append('t/a', newEvent(i, { durable: true, data: { n: i, text } }));
  const page = await log.read('t/a', start, 256);
  expect(page.events.length).toBeLessThan(5);
  expect((await readAll(log, 't/a')).numbers).toEqual(Array.from({ length: count }, (_, i) => i + 1));
});

test('durable events beyond the limits are dropped in the background, and their readers told', async () => {
  const limits: [string, object, (numbers: number[]) => void][] = [
    ['count', { maxEvents: 10 }, (numbers) => expect(numbers).toEqual(last(10))],
    ['bytes', { maxEventBytes: 1000 }, (numbers) => expect(numbers.length).toBeLessThan(10)],
    ['total', { maxTotalEvents: 20 }, (numbers) => expect(numbers).toEqual(last(20))],
  ];
  const last = (count: number) => Array.from({ length: count }, (_, i) => 101 - count + i);
  for (const [name, options, expectation] of limits) {
    const { log } = await openStore(':memory:', { ...options, pruneEveryMs: 5, memory: { ringEvents: 2 } });
    const text = 'x'.repeat(100);
    await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        log.append('t/a', newEvent(i + 1, { durable: true, data: { n: i + 1, text } })),
      ),
    );
    await expect
      .poll(async () => {
        try {
          expectation((await readAll(log, 't/a')).numbers);
          return name;
        } catch {
          return 'not yet';
        }
      })
      .toBe(name);
    const { found, numbers } = await readAll(log, 't/a');
    expect(found[0]).toEqual({ kind: 'gap', epoch: log.epoch, from: 1, to: numbers[0]! - 1 });
  }
});
