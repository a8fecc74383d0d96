import { HubError } from '../errors.ts';
import type { JournalEntry } from './journal.ts';

/** How much of the past a journal keeps to recognise repeated command ids. */
export interface JournalLimits {
  /** Acknowledged ids that are remembered; older ones are forgotten first. Default: 10,000. */
  maxEntries?: number | undefined;
  /** Bytes of acknowledged results that are kept to be told again. Default: 16 MiB. */
  maxResultBytes?: number | undefined;
}

/** The content of a journal in memory; the file journal keeps the same and writes it down. */
export class JournalIndex {
  readonly #maxEntries: number;
  readonly #maxResultBytes: number;
  readonly #open = new Map<string, JournalEntry>();
  // Acknowledged ids in order of age, and the results of those that still have one.
  readonly #acknowledged = new Map<string, boolean>();
  readonly #answers = new Map<string, Uint8Array>();
  #answerBytes = 0;

  constructor({ maxEntries = 10_000, maxResultBytes = 16 * 1024 * 1024 }: JournalLimits) {
    for (const [name, value] of Object.entries({ maxEntries, maxResultBytes }))
      if (!Number.isInteger(value) || value < 0)
        throw new HubError('invalid-argument', `journal: ${name} ${value} is not a whole number from 0`);
    this.#maxEntries = maxEntries;
    this.#maxResultBytes = maxResultBytes;
  }

  lookup(commandId: string): JournalEntry | undefined {
    const open = this.#open.get(commandId);
    if (open) return open;
    const idempotent = this.#acknowledged.get(commandId);
    if (idempotent === undefined) return undefined;
    return { commandId, idempotent, state: 'acknowledged', result: this.#answers.get(commandId) };
  }

  begin(commandId: string, idempotent: boolean): void {
    this.#open.set(commandId, { commandId, idempotent, state: 'begun' });
  }

  finish(commandId: string, result: Uint8Array): void {
    const idempotent = this.#open.get(commandId)?.idempotent ?? false;
    this.#open.set(commandId, { commandId, idempotent, state: 'finished', result });
  }

  retire(commandIds: readonly string[]): void {
    for (const commandId of commandIds) {
      const entry = this.#open.get(commandId);
      this.#open.delete(commandId);
      if (entry?.result) this.#keep(commandId, entry.idempotent, entry.result);
    }
  }

  unacknowledged(): JournalEntry[] {
    return [...this.#open.values()];
  }

  /** Acknowledged entries, oldest first. */
  *acknowledged(): IterableIterator<JournalEntry> {
    for (const [commandId, idempotent] of this.#acknowledged)
      yield { commandId, idempotent, state: 'acknowledged', result: this.#answers.get(commandId) };
  }

  /** Takes over an acknowledged entry as it is. */
  restore(entry: JournalEntry): void {
    this.#keep(entry.commandId, entry.idempotent, entry.result);
  }

  #keep(commandId: string, idempotent: boolean, result: Uint8Array | undefined): void {
    this.#drop(commandId);
    this.#acknowledged.set(commandId, idempotent);
    if (result) {
      this.#answers.set(commandId, result);
      this.#answerBytes += result.length;
    }
    while (this.#acknowledged.size > this.#maxEntries) this.#drop(firstKey(this.#acknowledged));
    while (this.#answerBytes > this.#maxResultBytes) this.#dropAnswer(firstKey(this.#answers));
  }

  #drop(commandId: string): void {
    this.#acknowledged.delete(commandId);
    this.#dropAnswer(commandId);
  }

  #dropAnswer(commandId: string): void {
    const answer = this.#answers.get(commandId);
    if (!answer) return;
    this.#answers.delete(commandId);
    this.#answerBytes -= answer.length;
  }
}

function firstKey(map: ReadonlyMap<string, unknown>): string {
  return map.keys().next().value as string;
}
