// `npm run test:faults [-- --full] [--seed=N] [<filter>]`: kills, cuts, storms and floods, with ledgers compared afterwards.
// The CI size is part of `npm test`; `--full` takes about 20 minutes, beside the churn (P25), which takes its hour.
import { spawn } from 'node:child_process';
import path from 'node:path';

const args = process.argv.slice(2);
const isFull = args.includes('--full');
const seed = args.find((arg) => arg.startsWith('--seed='))?.slice('--seed='.length);
const filters = args.filter((arg) => !arg.startsWith('--'));
const unknown = args.find((arg) => arg.startsWith('--') && arg !== '--full' && !arg.startsWith('--seed='));
if (unknown !== undefined || (seed !== undefined && !/^\d+$/.test(seed))) {
  console.error(`${unknown ?? `--seed=${seed}`}: there are --full and --seed=<number>`);
  process.exit(1);
}
const files = filters.length === 0 ? ['test/faults/'] : filters.map((filter) => `test/faults/${filter}`);
const child = spawn('vitest', ['run', ...files], {
  cwd: path.dirname(import.meta.dirname),
  stdio: 'inherit',
  env: {
    ...process.env,
    SIGNALBOX_FAULTS: isFull ? 'full' : 'ci',
    ...(seed !== undefined && { SIGNALBOX_SEED: seed }),
  },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
child.once('close', (code) => process.exit(code ?? 1));
