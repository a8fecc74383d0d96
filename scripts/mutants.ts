// `npm run test:mutants [-- <part of a name>]`: puts one known bug after the other into a copy of the tree, and shows
// that a test notices each of them. A suite that cannot fail proves nothing.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Mutant, mutants } from '../test/mutants/mutants.ts';

const root = path.dirname(import.meta.dirname);
const limitMs = 5 * 60_000;
/** For all the files at once, without a bug. */
const cleanLimitMs = 30 * 60_000;
const workers = 2;

const filter = process.argv.slice(2).join(' ').toLowerCase();
const chosen = mutants.filter(({ name, file }) => `${name} ${file}`.toLowerCase().includes(filter));
if (chosen.length === 0) {
  console.error(`no mutant has "${filter}" in its name`);
  process.exit(1);
}

const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-mutants-'));
const running = new Set<ReturnType<typeof spawn>>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

const copies = Array.from({ length: workers }, (_, i) => copyTree(path.join(folder, String(i))));
const needed = [...new Set(chosen.flatMap(({ caughtBy }) => caughtBy))];
process.stdout.write(`Without a bug, ${needed.length} test files ... `);
const clean = await tests(copies[0]!, needed, cleanLimitMs);
if (!clean.hasPassed) {
  console.log(`FAILED\n${clean.output}\nBugs can only be told from a tree without any.`);
  process.exit(1);
}
console.log('pass');

const missed: string[] = [];
const queue = [...chosen];
await Promise.all(
  copies.map(async (copy) => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const verdict = await tryOut(mutant, copy);
      console.log(`${verdict.isCaught ? 'caught' : 'MISSED'}  ${mutant.name}  (${verdict.why})`);
      if (!verdict.isCaught) missed.push(mutant.name);
    }
  }),
);
console.log(`\n${chosen.length - missed.length} of ${chosen.length} bugs were caught`);
process.exit(missed.length === 0 ? 0 : 1);

/** The tree as it is now, with what is not committed, and the packages of the original. */
function copyTree(to: string): string {
  const listed = execFileSync('git', ['ls-files', '-z', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
  for (const file of listed.split('\0')) {
    if (file === '' || file === 'node_modules') continue;
    mkdirSync(path.dirname(path.join(to, file)), { recursive: true });
    cpSync(path.join(root, file), path.join(to, file), { force: true, verbatimSymlinks: true, recursive: true });
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(to, 'node_modules'));
  return to;
}

async function tryOut(mutant: Mutant, copy: string): Promise<{ isCaught: boolean; why: string }> {
  const file = path.join(copy, mutant.file);
  const original = readFileSync(file, 'utf8');
  const places = original.split(mutant.find).length - 1;
  if (places !== 1)
    return { isCaught: false, why: `its text stands ${places} times in ${mutant.file}: bring it up to date` };
  writeFileSync(
    file,
    original.replace(mutant.find, () => mutant.replace),
  );
  try {
    for (const test of mutant.caughtBy) {
      const { hasPassed, failed } = await tests(copy, [test]);
      if (!hasPassed && failed !== undefined) return { isCaught: true, why: failed };
      if (!hasPassed) return { isCaught: false, why: `${test} could not be run: the bug is no bug but nonsense` };
    }
    return { isCaught: false, why: `${mutant.caughtBy.join(', ')} passed` };
  } finally {
    writeFileSync(file, original);
  }
}

interface Outcome {
  readonly hasPassed: boolean;
  /** The first test that failed. */
  readonly failed: string | undefined;
  readonly output: string;
}

function tests(copy: string, files: readonly string[], withinMs = limitMs): Promise<Outcome> {
  const report = path.join(copy, 'mutant-report.json');
  rmSync(report, { force: true });
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  // A bug that lets a test hang shows in half of the time that a test has otherwise.
  const args = ['run', '--bail=1', '--testTimeout=60000', ...reporters, ...files];
  return new Promise((resolve) => {
    const child = spawn(path.join(root, 'node_modules', '.bin', 'vitest'), args, {
      cwd: copy,
      env: { ...process.env, CI: '' },
      timeout: withinMs,
      killSignal: 'SIGKILL',
    });
    running.add(child);
    let output = '';
    const note = (chunk: unknown): void => {
      output = (output + String(chunk)).slice(-10_000);
    };
    child.stdout.on('data', note);
    child.stderr.on('data', note);
    child.once('close', (code, signal) => {
      running.delete(child);
      const failed = signal === null ? failedIn(report) : `nothing ended within ${withinMs / 60_000} minutes`;
      resolve({ hasPassed: code === 0, failed, output });
    });
  });
}

/** Title of a failed test; an error outside of any test counts, a file that cannot be loaded does not. */
function failedIn(report: string): string | undefined {
  interface Report {
    testResults: { assertionResults: { status: string; title: string }[] }[];
  }
  let read: Report;
  try {
    read = JSON.parse(readFileSync(report, 'utf8')) as Report;
  } catch {
    return undefined; // it did not come so far
  }
  const all = read.testResults.flatMap(({ assertionResults }) => assertionResults);
  return (
    all.find(({ status }) => status === 'failed')?.title ??
    (all.length > 0 ? 'an error outside of the tests' : undefined)
  );
}
