import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';

/** An empty folder until the test ends. */
export function emptyFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-example-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts an example as people do, but in a folder where it may leave things. */
export function startExample(file: string, ...args: string[]): Program {
  const env = { NODE_OPTIONS: '', SIGNALBOX_ADDRESS: '', SIGNALBOX_TOKEN: '' };
  const program = path.join(root, 'examples', file);
  return new Program(process.execPath, [program, ...args], { cwd: emptyFolder(), env });
}

/** Runs an example to its end; throws with what it said if that is not a good one. */
export async function runExample(file: string, ...args: string[]): Promise<string[]> {
  const program = startExample(file, ...args);
  const code = await program.ended();
  if (code !== 0) throw new Error(`${file} ended with ${code}\n${program.stdout}\n${program.stderr}`);
  return program.stdout.trimEnd().split('\n');
}
