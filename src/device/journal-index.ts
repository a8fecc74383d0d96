import { HubError } from '../errors.ts';
import { Deque } from '../flow/deque.ts';
import { TransitMap } from '../flow/transit-map.ts';
import type { JournalEntry } from './journal.ts';

/** How much of the past a journal keeps to recognise repeated command ids. */
export interface JournalLimits {
  /** Acknowledged ids that are remembered; older ones are forgotten first. Default: 10,000. */
  maxEntries?: number | undefined;
  /** Bytes of acknowledged results that are kept to be told again. Default: 16 MiB. */
  maxResultBytes?: number | undefined;
}

/** An entry that the hub has acknowledged. */
interface Acknowledged {
  readonly commandId: string;
  readonly idempotent: boolean;
  readonly state: 'acknowledged';
  result: Uint8Array | undefined;
}

/** The content of a journal in memory; the file journal keeps the same and writes it down. */
export class JournalIndex {
  readonly #maxEntries: number;
  readonly #maxResultBytes: number;
  readonly #open = new TransitMap<JournalEntry>();
  readonly #acknowledged = new TransitMap<Acknowledged>();
  /** By age. */
  readonly #aging = new Deque<Acknowledged>();
  readonly #answered = new Deque<Acknowledged>();
  #answerBytes = 0;

  constructor({ maxEntries = 10_000, maxResultBytes = 16 * 1024 * 1024 }: JournalLimits) {
    for (const [name, value] of Object.entries({ maxEntries, maxResultBytes }))
      if (!Number.isInteger(value) || value < 0)
        throw new HubError('invalid-argument', `journal: ${name} ${value} is not a whole number from 0`);
    this.#maxEntries = maxEntries;
    this.#maxResultBytes = maxResultBytes;
  }

  lookup(commandId: string): JournalEntry | undefined {
    return this.#open.get(commandId) ?? this.#acknowledged.get(commandId);
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
      const entry = this.#open.delete(commandId);
      if (entry?.result) this.#keep({ ...entry, state: 'acknowledged', result: entry.result });
    }
  }

  unacknowledged(): JournalEntry[] {
    return this.#open.values();
  }

  /** Acknowledged entries, oldest first. */
  acknowledged(): JournalEntry[] {
    return [...this.#aging].filter((entry) => this.#acknowledged.get(entry.commandId) === entry);
  }

  /** Takes over an acknowledged entry as it is. */
  restore({ commandId, idempotent, result }: JournalEntry): void {
    this.#keep({ commandId, idempotent, state: 'acknowledged', result });
  }

  #keep(entry: Acknowledged): void {
    const { commandId, result } = entry;
    const older = this.#acknowledged.get(commandId);
    if (older) this.#dropResult(older);
    this.#acknowledged.set(commandId, entry);
    this.#aging.push(entry);
    if (result) {
      this.#answered.push(entry);
      this.#answerBytes += result.length;
    }
    while (this.#aging.size > this.#maxEntries) {
      const oldest = this.#aging.shift() as Acknowledged;
      this.#dropResult(oldest);
      if (this.#acknowledged.get(oldest.commandId) === oldest) this.#acknowledged.delete(oldest.commandId);
    }
    while (this.#answerBytes > this.#maxResultBytes || (this.#answered.first && !this.#answered.first.result))
      this.#dropResult(this.#answered.shift() as Acknowledged);
  }

  #dropResult(entry: Acknowledged): void {
    this.#answerBytes -= entry.result?.length ?? 0;
    entry.result = undefined;
  }
}
