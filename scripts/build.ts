// `npm run build`: an empty dist, the compiled library, the page's files, an executable bin.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
process.chdir(root);

rmSync('dist', { recursive: true, force: true });
try {
  execFileSync('tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
  execFileSync('tsc', ['-p', 'src/browser/page/tsconfig.build.json'], { stdio: 'inherit' });
} catch {
  process.exit(1); // tsc has said why
}

// What is served as it is.
cpSync('src', 'dist', {
  recursive: true,
  filter: (source) => !/\.\w+$/.test(source) || /\.(html|css|svg|proto|sql)$/.test(source),
});

if (existsSync('dist/cli/main.js')) chmodSync('dist/cli/main.js', 0o755);
