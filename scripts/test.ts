// `npm test`: everything that has to hold, stage by stage, and at the end one line `N passed, N failed`.
// `npm test -- <filter>`: only the tests whose file matches.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { installMissing } from './debian.ts';
import { baseline, outdated } from './generate.ts';

const root = path.dirname(import.meta.dirname);
process.chdir(root);

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** What a stage has to say: nothing when it passed, else why not. */
type Stage = { readonly name: string; readonly run: () => Promise<string | undefined> };

const filter = process.argv.slice(2);
const total: Tally = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];
let running: ReturnType<typeof spawn> | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    running?.kill(signal);
    process.exit(130);
  });

const stages: Stage[] = [
  { name: 'format and lint', run: () => tool('biome', ['check', '--error-on-warnings', '.']) },
  { name: 'types', run: () => tool('tsc', ['-p', '.']) },
  { name: 'types of the page', run: () => tool('tsc', ['-p', 'src/browser/page']) },
  { name: 'buf lint', run: () => tool('buf', ['lint']) },
  { name: `buf breaking against ${baseline}`, run: () => tool('buf', ['breaking', '--against', baseline]) },
  { name: 'generated code is up to date', run: generated },
  { name: 'build', run: () => tool(process.execPath, ['scripts/build.ts']) },
];

const begun = performance.now();
if (filter.length === 0) {
  for (const [index, stage] of stages.entries()) await runStage(stage, `[${index + 1}/${stages.length + 2}]`);
  await vitest('import direction and house rules', `[${stages.length + 1}/${stages.length + 2}]`, [
    '--project',
    'house',
  ]);
  await installMissing();
  const projects = ['rooms', 'whole', 'churn', 'faults'].flatMap((name) => ['--project', name]);
  await vitest('tests', `[${stages.length + 2}/${stages.length + 2}]`, projects);
} else {
  await installMissing();
  await vitest(`tests that match ${filter.join(' ')}`, '[1/1]', filter);
}

console.log(`\n${seconds(begun)} in all.`);
if (failures.length > 0) console.log(`Failed: ${failures.join('; ')}`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;

async function runStage(stage: Stage, number: string): Promise<void> {
  const since = performance.now();
  process.stdout.write(`${number} ${stage.name} ... `);
  const wrong = await stage.run();
  console.log(`${wrong === undefined ? 'ok' : 'FAILED'} (${seconds(since)})`);
  if (wrong === undefined) {
    total.passed += 1;
  } else {
    total.failed += 1;
    failures.push(stage.name);
    console.log(wrong.trimEnd());
  }
}

/** Runs vitest, shows what it says as it says it, and counts every test of its report. */
async function vitest(name: string, number: string, args: readonly string[]): Promise<void> {
  const since = performance.now();
  console.log(`${number} ${name} ...`);
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-test-'));
  const report = path.join(folder, 'report.json');
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const { code } = await run('vitest', ['run', ...reporters, ...args], { show: true, limitMs: 30 * 60_000 });
    const tally = count(report);
    // Red without a failed test: an error outside of tests, no test found, or vitest itself fell.
    if (code !== 0 && tally.failed === 0) tally.failed = 1;
    total.passed += tally.passed;
    total.failed += tally.failed;
    total.skipped += tally.skipped;
    if (tally.failed > 0) failures.push(name);
    console.log(`${number} ${name}: ${tally.failed === 0 ? 'ok' : 'FAILED'} (${seconds(since)})`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Report {
  testResults: { status: string; assertionResults: { status: string }[] }[];
}

function count(report: string): Tally {
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  if (!existsSync(report)) return { ...tally, failed: 1 };
  for (const file of (JSON.parse(readFileSync(report, 'utf8')) as Report).testResults) {
    let failedHere = 0;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') tally.passed += 1;
      else if (status === 'failed') failedHere += 1;
      else tally.skipped += 1;
    }
    // A file that cannot be loaded has no tests to fail.
    if (file.status === 'failed' && failedHere === 0) failedHere = 1;
    tally.failed += failedHere;
  }
  return tally;
}

async function generated(): Promise<string | undefined> {
  try {
    const wrong = outdated();
    return wrong.length === 0 ? undefined : `${wrong.join('\n')}\nnpm run generate makes it anew.`;
  } catch (error) {
    return `the generator failed: ${error instanceof Error ? error.message : error}`;
  }
}

async function tool(command: string, args: readonly string[]): Promise<string | undefined> {
  const { code, output } = await run(command, args, { show: false, limitMs: 5 * 60_000 });
  return code === 0 ? undefined : `${output}${command} ${args.join(' ')} ended with ${code}`;
}

function run(command: string, args: readonly string[], options: { show: boolean; limitMs: number }) {
  return new Promise<{ code: number | string; output: string }>((resolve) => {
    const child = spawn(command, args, {
      stdio: ['ignore', options.show ? 'inherit' : 'pipe', options.show ? 'inherit' : 'pipe'],
      timeout: options.limitMs,
      // The build stage has just made dist; the test of the package need not make it again.
      env: { ...process.env, ...(filter.length === 0 && { SIGNALBOX_BUILT: '1' }) },
    });
    running = child;
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.once('error', (error) => resolve({ code: error.message, output: '' }));
    child.once('close', (code, signal) => {
      running = undefined;
      resolve({
        code: code ?? `${signal} (its time limit is ${options.limitMs / 1000} s)`,
        output: `${Buffer.concat(chunks)}`,
      });
    });
  });
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
