#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { exitCodes } from './exit-codes.ts';
import { run } from './run.ts';
import { verbs } from './verbs/index.ts';

const aborter = new AbortController();
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// `signalbox watch fleet | head` closes the pipe: that is a normal end, and not worth a word. A drain under way is not
// cut short by it, and a hub does not end because nobody reads its log any more.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (aborter.signal.aborted) return;
  process.exit(error.code === 'EPIPE' ? exitCodes.ok : exitCodes.failed);
});
process.stderr.on('error', () => undefined);
// Under npm one Ctrl-C comes twice: from the terminal and, a moment later, from npm.
const echoMs = process.env.npm_lifecycle_event ? 300 : 0;
let stoppedAtMs = 0;
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => {
    if (!aborter.signal.aborted) {
      stoppedAtMs = performance.now();
      aborter.abort(new Error(`stopped by ${name}`));
    } else if (performance.now() - stoppedAtMs >= echoMs) process.exit(exitCodes.failed);
  });

process.exitCode = await run(process.argv.slice(2), verbs, process, { version, signal: aborter.signal });
// What a pipe has not taken yet is written before the end; nothing else may hold the process.
if (process.stdout.writableLength > 0) await new Promise((resolve) => process.stdout.write('', resolve));
process.exit();
