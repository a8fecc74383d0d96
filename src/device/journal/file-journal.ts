import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Journal, JournalEntry } from './journal.ts';
import { JournalIndex, type JournalLimits } from './journal-index.ts';
import { lockFile } from './journal-lock.ts';
import { type JournalFact, JournalLog } from './journal-log.ts';
import type { EntryRecord } from './journal-records.ts';

export interface FileJournalOptions extends JournalLimits {
  /** False: survives the end of the process, but not that of the machine; each command is faster. Default: true. */
  fsync?: boolean | undefined;
  /** The file is written anew when it is larger than this, in bytes, and mostly of the past. Default: 4 MiB. */
  compactBytes?: number | undefined;
  observe?: ((fact: JournalFact) => void) | undefined;
}

/**
 * A journal in a file, `journal.log` in `directory`, which is made if it is not there. It survives crashes of the
 * device. Begins that come together share one fsync.
 *
 * Throws `unavailable` when another process uses it, `internal` when the file is damaged, and what the file system
 * throws. After a failed fsync nothing is recorded any more, and so nothing is begun, until it is opened again.
 */
export function fileJournal(directory: string, options: FileJournalOptions = {}): Journal {
  const index = new JournalIndex(options);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const home = resolve(directory);
  const unlock = lockFile(join(home, 'journal.lock'));
  try {
    return new FileJournal(home, index, options, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

class FileJournal implements Journal {
  readonly #index: JournalIndex;
  readonly #log: JournalLog;
  readonly #unlock: () => void;
  #closing: Promise<void> | undefined;

  constructor(directory: string, index: JournalIndex, options: FileJournalOptions, unlock: () => void) {
    const { fsync = true, compactBytes = 4 * 1024 * 1024, observe } = options;
    this.#index = index;
    this.#unlock = unlock;
    this.#log = new JournalLog(directory, {
      fsync,
      compactBytes,
      onRecord: (record) => this.#apply(record),
      needed: () => this.#needed(),
      observe,
    });
  }

  get id(): string {
    return this.#log.id;
  }

  lookup(commandId: string): JournalEntry | undefined {
    return this.#index.lookup(commandId);
  }

  begin(commandId: string, { idempotent }: { readonly idempotent: boolean }): Promise<void> {
    const { refusal } = this.#log;
    if (refusal) return Promise.reject(refusal);
    this.#index.begin(commandId, idempotent);
    return this.#log.append([{ kind: 'begin', id: commandId, idempotent }], true).catch((error: unknown) => {
      this.#index.retire([commandId]);
      throw error;
    });
  }

  finish(commandId: string, result: Uint8Array): Promise<void> {
    this.#index.finish(commandId, result);
    return this.#log.append([{ kind: 'finish', id: commandId, result }], false);
  }

  unacknowledged(): JournalEntry[] {
    return this.#index.unacknowledged();
  }

  retire(commandIds: readonly string[]): Promise<void> {
    this.#index.retire(commandIds);
    const records = commandIds.map((id): EntryRecord => ({ kind: 'retire', id }));
    return this.#log.append(records, false);
  }

  close(): Promise<void> {
    this.#closing ??= this.#log.close().then(this.#unlock);
    return this.#closing;
  }

  /** Takes up what the file says. */
  #apply(record: EntryRecord): void {
    const { id: commandId } = record;
    switch (record.kind) {
      case 'begin':
        this.#index.begin(commandId, record.idempotent);
        break;
      case 'finish':
        this.#index.finish(commandId, record.result);
        break;
      case 'retire':
        this.#index.retire([commandId]);
        break;
      case 'forgotten':
        this.#index.restore({ commandId, idempotent: record.idempotent, state: 'acknowledged' });
        break;
      default:
        record satisfies never;
    }
  }

  /** What a new file has to say. The index knows what is still to be written, too: said twice, it changes nothing. */
  #needed(): EntryRecord[] {
    const records: EntryRecord[] = [];
    for (const { commandId: id, idempotent, result } of this.#index.acknowledged()) {
      if (!result) records.push({ kind: 'forgotten', id, idempotent });
      else records.push({ kind: 'begin', id, idempotent }, { kind: 'finish', id, result }, { kind: 'retire', id });
    }
    for (const { commandId: id, idempotent, result } of this.#index.unacknowledged()) {
      records.push({ kind: 'begin', id, idempotent });
      if (result) records.push({ kind: 'finish', id, result });
    }
    return records;
  }
}
