import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { root, type Source, sources } from '../support/sources.ts';

const all = sources();

/** `file:line: text` of every line that matches. */
function lines(files: readonly Source[], pattern: RegExp): string[] {
  return files.flatMap(({ file, lines }) =>
    lines.flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  );
}

test('the core takes its time and its dice from outside, so that tests can bring their own', () => {
  const core = all.filter(
    ({ file }) =>
      /^src\/(flow|protocol|events|leases|hub|commands|device|tasks)\//.test(file) && file !== 'src/flow/clock.ts',
  );
  // `random = Math.random` as an option's default is how it comes in; calling it is not.
  const bare =
    /\bDate\.now\b|\bnew Date\(\)|\bsetTimeout\b|\bsetInterval\b|\bMath\.random\(|\bperformance\.now\b|node:timers/;
  expect(lines(core, bare)).toEqual([]);
});

test('only the options of the server, the command line and the entry read the environment', () => {
  const others = all.filter(
    ({ file }) => file !== 'src/server/load-options.ts' && file !== 'src/index.ts' && !file.startsWith('src/cli/'),
  );
  expect(lines(others, /\bprocess\.env\b/)).toEqual([]);
});

test('every index lists its exports by name', () => {
  const indexes = all.filter(({ file }) => file.endsWith('/index.ts'));
  expect(lines(indexes, /^\s*export\s*\*/)).toEqual([]);
});

test('nothing is exported as default', () => {
  expect(lines(all, /^\s*export default\b/)).toEqual([]);
});

test('every public subpath and the bin of package.json has its source', () => {
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string>;
    bin: Record<string, string>;
  };
  const targets = [...Object.values(manifest.exports), ...Object.values(manifest.bin)];
  const missing = targets
    .map((target) => target.replace('./dist/', './src/').replace(/\.js$/, '.ts'))
    .filter((source) => !existsSync(path.join(root, source)));
  expect(missing).toEqual([]);
});
