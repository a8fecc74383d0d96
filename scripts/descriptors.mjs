// Writes src/grpc/descriptors.ts: what server reflection answers with, made from proto/ by `buf build`.
// `node scripts/descriptors.mjs --check` writes nothing and fails when the file is not up to date.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const path = 'src/grpc/descriptors.ts';

// Without source info: comments would triple it, and reflection needs only the types.
const bytes = execFileSync(
  'node_modules/.bin/buf',
  ['build', '--as-file-descriptor-set', '--exclude-source-info', '-o', '-#format=binpb'],
  {
    cwd: root,
    maxBuffer: 64 * 1024 * 1024,
  },
);
const lines = bytes.toString('base64').match(/.{1,110}/g) ?? [];
const text = `// Made by scripts/descriptors.mjs from proto/. DO NOT EDIT.

/** The FileDescriptorSet of every .proto file of this package, as base64. */
export const descriptors = [
${lines.map((line) => `  '${line}',`).join('\n')}
].join('');
`;

if (process.argv.includes('--check')) {
  if (readFileSync(`${root}${path}`, 'utf8') !== text) {
    console.error(`${path} is not up to date with proto/: run \`node scripts/descriptors.mjs\``);
    process.exit(1);
  }
} else writeFileSync(`${root}${path}`, text);
