import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { root } from './sources.ts';

/** A program in a process of its own, read as it writes. It is killed when the test ends. */
export class Program {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting = new Set<() => void>();
  readonly #exit: Promise<number | null>;
  #hasEnded = false;
  stdout = '';
  stderr = '';

  constructor(
    command: string,
    args: readonly string[],
    { env = {}, cwd = root }: { env?: Record<string, string>; cwd?: string } = {},
  ) {
    this.#child = spawn(command, args, { cwd, env: { ...process.env, ...env } });
    const read = (name: 'stdout' | 'stderr') => (chunk: Buffer) => {
      this[name] += String(chunk);
      this.#wake();
    };
    this.#child.stdout.on('data', read('stdout'));
    this.#child.stderr.on('data', read('stderr'));
    this.#child.stdin.on('error', () => undefined); // it may have ended already; its exit code says so
    this.#exit = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (code) => {
        this.#hasEnded = true;
        this.#wake();
        resolve(code);
      });
    });
    this.#exit.catch(() => this.#wake());
    onTestFinished(() => void this.#child.kill('SIGKILL'));
  }

  write(text: string): void {
    this.#child.stdin.write(text);
  }

  endInput(): void {
    this.#child.stdin.end();
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Resolves once the output matches; throws, with all that was said, when the program ends before. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.stdout);
      if (found) return found;
      if (this.#hasEnded) throw new Error(`${pattern} was not said.\n${this.stdout}\n${this.stderr}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Resolves to the exit code. */
  ended(): Promise<number | null> {
    return this.#exit;
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
