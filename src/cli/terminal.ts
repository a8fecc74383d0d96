import { HubError, toHubError } from '../errors.ts';
import { printable } from '../server/printable.ts';
import { connectionReason } from './connection-reason.ts';

/** The outside of the command, so that it can be run inside a test. */
export interface Outside {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type Colour = 'red' | 'green' | 'yellow' | 'cyan' | 'grey' | 'bold';

const codes: Record<Colour, number> = { red: 31, green: 32, yellow: 33, cyan: 36, grey: 90, bold: 1 };

/** Writes for people, or one JSON object a line for programs. */
export class Terminal {
  readonly isJson: boolean;
  readonly #outside: Outside;
  #hasProgress = false;

  constructor(outside: Outside, { json = false }: { json?: boolean | undefined } = {}) {
    this.#outside = outside;
    this.isJson = json;
  }

  /** One fact: the object with `--json`, the line otherwise. Undefined: this side says nothing. */
  tell(object: object | undefined, line?: string): void {
    if (this.isJson) {
      if (object !== undefined) this.#write(jsonLine(object));
    } else if (line !== undefined) {
      this.#clearProgress();
      this.#write(`${line}\n`);
    }
  }

  /** For people only, and not part of the answer. */
  note(line: string): void {
    if (this.isJson) return;
    this.#clearProgress();
    this.#outside.stderr.write(`${line}\n`);
  }

  /** An error: on stdout as `{"error":{code,message}}` with `--json`, on stderr otherwise. */
  fail(thrown: unknown, facts: object = {}): void {
    const { code, message: text, retryAfterMs } = toHubError(thrown);
    const message = connectionReason(text);
    this.#clearProgress();
    if (this.isJson) this.#write(jsonLine({ ...facts, error: { code, message, retryAfterMs } }));
    else this.#outside.stderr.write(`${this.paint('red', 'error', this.#outside.stderr)}: ${printable(message)}\n`);
  }

  /** A line that the next one replaces; on a terminal only. */
  progress(line: string): void {
    const { stderr } = this.#outside;
    if (this.isJson || !stderr.isTTY) return;
    this.#hasProgress = true;
    stderr.write(`\r\x1b[K${line.slice(0, Math.max(10, (stderr.columns ?? 80) - 1))}`);
  }

  /** The text in a colour, where colours are wanted: on a terminal, unless NO_COLOR is set. */
  paint(colour: Colour, text: string, stream: NodeJS.WriteStream = this.#outside.stdout): string {
    const { NO_COLOR, FORCE_COLOR, TERM } = this.#outside.env;
    const wanted = NO_COLOR ? false : FORCE_COLOR ? FORCE_COLOR !== '0' : stream.isTTY && TERM !== 'dumb';
    return wanted ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;
  }

  #clearProgress(): void {
    if (!this.#hasProgress) return;
    this.#hasProgress = false;
    this.#outside.stderr.write('\r\x1b[K');
  }

  #write(text: string): void {
    this.#outside.stdout.write(text);
  }
}

/** JSON leaves some codes as they are that a terminal would obey. */
function jsonLine(object: object): string {
  const text = JSON.stringify(object).replaceAll(
    /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `${text}\n`;
}

/** A table for people: columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const shown = rows.map((row) => row.map(printable));
  const widths = shown[0]?.map((_, column) => Math.max(...shown.map((row) => row[column]?.length ?? 0))) ?? [];
  return shown
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** All of stdin as text. Throws `invalid-argument` over 16 MiB. */
export async function readAll(stdin: NodeJS.ReadStream): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stdin) {
    size += chunk.length;
    if (size > 16 * 1024 * 1024) throw new HubError('invalid-argument', 'stdin holds more than 16 MiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
