import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';

/** A file that is only appended to, one JSON line at a time; a line that was written survives the writer's death. */
export class Ledger<T extends object> {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  write(line: T): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** All lines; none when nobody has written yet. The last one may be on its way just now: it counts once it is whole. */
export function readLedger<T>(path: string): T[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

/** What callers submitted, and what they were told. */
export type CallerLine =
  | {
      readonly kind: 'submitted';
      readonly id: string;
      readonly clientId: string;
      readonly key?: string | undefined;
      readonly orderingKey?: string | undefined;
      readonly content: string;
      readonly idempotent: boolean;
    }
  /** `accepted`: under which id. */
  | { readonly kind: 'accepted'; readonly id: string; readonly as: string }
  | { readonly kind: 'ended'; readonly id: string; readonly as: string; readonly state: string }
  | { readonly kind: 'refused'; readonly id: string; readonly code: string; readonly message: string };

/** What a device really did: written before the library hears of it. */
export interface EffectLine {
  readonly id: string;
  readonly clientId: string;
  readonly content: string;
  readonly orderingKey: string;
  readonly boot: string;
}
