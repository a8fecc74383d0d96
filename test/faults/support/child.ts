import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** Programs are started many times; what they are compiled to is kept. */
const compileCache = path.resolve(import.meta.dirname, '../../../.cache/compiled');

/** A Node program of `test/faults/support` in a process of its own, which says JSON lines. */
export class Child {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: Record<string, unknown>[] = [];
  readonly #waiting = new Set<() => void>();
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  hasEnded = false;
  stderr = '';

  constructor(program: string, options: object | string, { limit }: { limit?: string } = {}) {
    const args = ['--expose-gc', path.join(import.meta.dirname, `${program}.ts`), JSON.stringify(options)];
    // `limit` is a command of the shell for the process, as `ulimit -n 100`.
    const env = { ...process.env, NODE_COMPILE_CACHE: compileCache };
    this.#process =
      limit === undefined
        ? spawn(process.execPath, args, { env })
        : spawn('sh', ['-c', `${limit}; exec "$0" "$@"`, process.execPath, ...args], { env });
    all.add(this);
    this.ended = once(this.#process, 'close').then(([code, signal]) => {
      this.hasEnded = true;
      all.delete(this);
      this.#wake();
      return (code ?? signal) as number | string;
    });
    this.#process.stderr.on('data', (chunk) => {
      this.stderr = (this.stderr + String(chunk)).slice(-20_000);
    });
    this.#process.stdin.on('error', () => undefined); // it may be dead by now; `ended` says so
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      if (!line.startsWith('{')) return;
      this.#lines.push(JSON.parse(line) as Record<string, unknown>);
      this.#wake();
    });
  }

  get pid(): number {
    return this.#process.pid!;
  }

  /** The next line that has this key. Throws, with what it complained of, when the process ends before. */
  async says<T>(key: string): Promise<T> {
    for (;;) {
      const at = this.#lines.findIndex((line) => key in line);
      if (at >= 0) return this.#lines.splice(at, 1)[0]![key] as T;
      if (this.hasEnded) throw new Error(`process ${this.pid} ended before it said "${key}"\n${this.stderr}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  tell(line: string): void {
    this.#process.stdin.write(`${line}\n`);
  }

  ask<T>(question: string, key: string): Promise<T> {
    this.tell(question);
    return this.says<T>(key);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.ended;
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

const all = new Set<Child>();

/** For `afterEach`: no test leaves a process behind. */
export async function killAll(): Promise<void> {
  await Promise.all([...all].map((child) => child.kill()));
}
