// `npm run format`: formats everything, and mends what the linter can mend.
import { execFileSync } from 'node:child_process';

try {
  execFileSync('biome', ['check', '--write', '.'], { stdio: 'inherit' });
} catch {
  process.exitCode = 1; // biome has said why
}
