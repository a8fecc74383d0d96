import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { root } from '../support/sources.ts';

/** A test file that needs a tool which is not there. */
const needy = `
  import { expect, test } from '${root}/node_modules/vitest/dist/index.js';
  import { debianTools } from '${root}/scripts/debian.ts';
  import { describeNeeding } from '${root}/test/support/needs.ts';
  debianTools.chromium.isThere = () => false;
  describeNeeding('chromium', 'in a browser', () => test('it works', () => expect('a browser').toBe('there')));
  test('another', () => undefined);
`;

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: { readonly assertionResults: { readonly status: string; readonly fullName: string }[] }[];
}

test.each([
  ['', { numPassedTests: 1, numFailedTests: 0, numPendingTests: 1 }, 'skipped', 'skipped: the Debian package chromium'],
  ['true', { numPassedTests: 1, numFailedTests: 1, numPendingTests: 0 }, 'failed', 'needs the Debian package chromium'],
])('with CI=%j a test whose Debian tool is missing is counted, and says so', (CI, counts, status, says) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-needs-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(path.join(folder, 'needy.test.ts'), needy);
  const report = path.join(folder, 'report.json');
  const vitest = path.join(root, 'node_modules/vitest/vitest.mjs');
  const args = [vitest, 'run', `--root=${folder}`, '--reporter=json', `--outputFile=${report}`];
  const { status: code, stderr } = spawnSync(process.execPath, args, { env: { ...process.env, CI }, encoding: 'utf8' });
  const told = JSON.parse(readFileSync(report, 'utf8')) as Report;
  expect(told, stderr).toMatchObject(counts);
  expect(code).toBe(counts.numFailedTests);
  const needing = told.testResults[0]!.assertionResults.find(({ fullName }) => fullName.includes('in a browser'));
  expect(needing).toMatchObject({ status: expect.stringMatching(status === 'skipped' ? /skipped|pending/ : /failed/) });
  expect(needing!.fullName).toContain(says);
});
