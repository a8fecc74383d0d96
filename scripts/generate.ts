// `npm run generate`: the code made from proto/, into the tree.
//   -- --accept-baseline   also takes today's proto/ as the wire that later changes must not break
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);

/** The wire as it was when it was last accepted: what `buf breaking` compares with. */
export const baseline = 'proto/baseline.binpb';

/** Folders in which everything is generated. */
const generatedFolders = ['src/protocol/gen'];

/** Makes the generated code below `folder`, which has the repository's layout. */
export function generate(folder: string, options: ExecFileSyncOptions = { stdio: 'inherit' }): void {
  execFileSync('buf', ['generate'], { ...options, cwd: folder });
  if (existsSync(path.join(folder, 'scripts', 'descriptors.mjs')))
    execFileSync(process.execPath, ['scripts/descriptors.mjs'], { ...options, cwd: folder });
}

/** Generated files that are not what proto/ gives today, as `path: what is wrong`. Changes nothing in the tree. */
export function outdated(): string[] {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-generated-'));
  try {
    for (const input of ['proto', 'scripts', 'package.json', 'buf.yaml', 'buf.gen.yaml'])
      cpSync(path.join(root, input), path.join(folder, input), { recursive: true });
    mkdirSync(path.join(folder, 'src/grpc'), { recursive: true }); // where descriptors.mjs writes
    symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'), 'dir');
    generate(folder, { stdio: ['ignore', 'ignore', 'inherit'] });

    const made = filesBelow(folder, 'src');
    const wrong = made.flatMap((file) => {
      if (!existsSync(path.join(root, file))) return [`${file}: is missing`];
      const same = readFileSync(path.join(root, file)).equals(readFileSync(path.join(folder, file)));
      return same ? [] : [`${file}: differs`];
    });
    const expected = new Set(made);
    for (const file of generatedFolders.flatMap((generated) => filesBelow(root, generated)))
      if (!expected.has(file)) wrong.push(`${file}: is not made from proto/ any more`);
    return wrong;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function filesBelow(folder: string, below: string): string[] {
  return readdirSync(path.join(folder, below), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'));
}

if (import.meta.main) {
  const [flag, ...rest] = process.argv.slice(2);
  if (rest.length > 0 || (flag !== undefined && flag !== '--accept-baseline')) {
    console.error(`generate: unknown argument ${flag}; there is --accept-baseline`);
    process.exit(2);
  }
  try {
    generate(root);
    if (flag === '--accept-baseline') {
      execFileSync('buf', ['build', '-o', baseline], { cwd: root, stdio: 'inherit' });
      console.log(`${baseline} is today's proto/ now; say in the change why the wire may break.`);
    }
  } catch {
    process.exitCode = 1; // buf has said why
  }
}
