import { join } from 'node:path';
import { Writable } from 'node:stream';
import { run } from '../../src/cli/run.ts';
import type { Outside } from '../../src/cli/terminal.ts';
import { verbs } from '../../src/cli/verbs/index.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';

/** Variables of the machine that runs the tests must not decide what they see. */
const neutral = { NO_COLOR: '', FORCE_COLOR: '', SIGNALBOX_ADDRESS: '', SIGNALBOX_TOKEN: '', npm_lifecycle_event: '' };

/** The command in a process of its own. */
export function signalbox(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): Program {
  const main = join(root, 'src/cli/main.ts');
  return new Program(process.execPath, [main, ...args], { ...options, env: { ...neutral, ...options.env } });
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of stdout as JSON. */
  json(): Record<string, unknown>[];
}

/** Runs it to its end within this process: for what needs no process of its own, in a tenth of the time. */
export async function runHere(args: readonly string[], env: Outside['env'] = {}): Promise<Outcome> {
  const said = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof said): NodeJS.WriteStream =>
    new Writable({
      write(chunk, _encoding, done) {
        said[name] += String(chunk);
        done();
      },
    }) as unknown as NodeJS.WriteStream;
  const outside: Outside = { stdout: stream('stdout'), stderr: stream('stderr'), stdin: process.stdin, env };
  const code = await run(args, verbs, outside, { version: '0', signal: new AbortController().signal });
  return { code, ...said, json: () => jsonLines(said.stdout) };
}

/** Runs it to its end. */
export async function runCli(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string; input?: string } = {},
): Promise<Outcome> {
  const program = signalbox(args, options);
  if (options.input !== undefined) program.write(options.input);
  program.endInput();
  const code = await program.ended();
  const { stdout, stderr } = program;
  return { code, stdout, stderr, json: () => jsonLines(stdout) };
}

export const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
