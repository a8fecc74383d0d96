import { HubError } from '../../errors.ts';
import { TransitMap } from '../../flow/transit-map.ts';
import { AcknowledgedEntries } from './acknowledged-entries.ts';
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
  readonly #open = new TransitMap<JournalEntry>();
  readonly #acknowledged: AcknowledgedEntries;

  constructor({ maxEntries = 10_000, maxResultBytes = 16 * 1024 * 1024 }: JournalLimits) {
    for (const [name, value] of Object.entries({ maxEntries, maxResultBytes }))
      if (!Number.isInteger(value) || value < 0)
        throw new HubError('invalid-argument', `journal: ${name} ${value} is not a whole number from 0`);
    this.#acknowledged = new AcknowledgedEntries(maxEntries, maxResultBytes);
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
      if (entry?.result) this.#acknowledged.add(commandId, entry.idempotent, entry.result);
    }
  }

  unacknowledged(): JournalEntry[] {
    return this.#open.values();
  }

  /** Acknowledged entries, oldest first. */
  acknowledged(): JournalEntry[] {
    return this.#acknowledged.all();
  }

  /** Takes over an acknowledged entry as it is. */
  restore({ commandId, idempotent, result }: JournalEntry): void {
    this.#acknowledged.add(commandId, idempotent, result);
  }
}
