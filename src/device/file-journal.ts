import { randomUUID } from 'node:crypto';
import {
  close,
  closeSync,
  fsync,
  fsyncSync,
  ftruncate,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { HubError } from '../errors.ts';
import { tell } from './facts.ts';
import type { Journal, JournalEntry } from './journal.ts';
import { JournalIndex, type JournalLimits } from './journal-index.ts';
import { lockFile } from './journal-lock.ts';
import { encodeRecord, findProofOfDamage, type JournalRecord, readRecord } from './journal-records.ts';

export interface FileJournalOptions extends JournalLimits {
  /** False: survives the end of the process, but not that of the machine; each command is faster. Default: true. */
  fsync?: boolean | undefined;
  /** The file is written anew when it is larger than this, in bytes, and mostly of the past. Default: 4 MiB. */
  compactBytes?: number | undefined;
  observe?: ((fact: JournalFact) => void) | undefined;
}

/** What a file journal tells. */
export type JournalFact =
  /** A write that a crash had cut off was taken out; nothing was ever begun or told because of it. */
  | { readonly kind: 'journal-truncated'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'journal-compacted'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'journal-compaction-failed'; readonly path: string; readonly error: unknown };

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

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The first record of a file, which is written before anything else, has this size. */
const lineageBytes = encodeRecord({ kind: 'lineage', id: randomUUID() }, 0).length;
/** For records of a file that is on disk before it is seen: all before them is there for certain. */
const everything = 2 ** 48 - 1;

const writeAsync = promisify(write);
const fsyncAsync = promisify(fsync);
const truncateAsync = promisify(ftruncate);
const closeAsync = promisify(close);

class FileJournal implements Journal {
  readonly id: string;
  readonly #directory: string;
  readonly #path: string;
  readonly #index: JournalIndex;
  readonly #fsync: boolean;
  readonly #compactBytes: number;
  readonly #observe: ((fact: JournalFact) => void) | undefined;
  readonly #unlock: () => void;
  #file: number;
  /** Bytes that are whole in the file, and how many of them are certainly on disk. */
  #written: number;
  #synced: number;
  /** Size of the file when it was last written anew, to know how much of it is past. */
  #liveBytes = 0;
  #pending: JournalRecord[] = [];
  #waiters: Waiter[] = [];
  #needsSync = false;
  #writing: Promise<void> | undefined;
  /** Why nothing more is recorded: it is closed, or what is on disk is not known any more. */
  #refusal: HubError | undefined;
  #isBroken = false;
  #closing: Promise<void> | undefined;

  constructor(directory: string, index: JournalIndex, options: FileJournalOptions, unlock: () => void) {
    this.#directory = directory;
    this.#path = join(directory, 'journal.log');
    this.#index = index;
    this.#fsync = options.fsync ?? true;
    this.#compactBytes = options.compactBytes ?? 4 * 1024 * 1024;
    this.#observe = options.observe;
    this.#unlock = unlock;
    // What a compaction that a crash cut off has left.
    rmSync(`${this.#path}.new`, { force: true });
    this.#file = openSync(this.#path, 'a+', 0o600);
    try {
      const { id, bytes } = this.#load();
      this.#written = this.#synced = this.#liveBytes = bytes;
      this.id = id ?? randomUUID();
      if (id === undefined) this.#found();
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  lookup(commandId: string): JournalEntry | undefined {
    return this.#index.lookup(commandId);
  }

  begin(commandId: string, { idempotent }: { readonly idempotent: boolean }): Promise<void> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    this.#index.begin(commandId, idempotent);
    this.#needsSync = true;
    return this.#append([{ kind: 'begin', id: commandId, idempotent }]).catch((error: unknown) => {
      this.#index.retire([commandId]);
      throw error;
    });
  }

  finish(commandId: string, result: Uint8Array): Promise<void> {
    this.#index.finish(commandId, result);
    return this.#append([{ kind: 'finish', id: commandId, result }]);
  }

  unacknowledged(): JournalEntry[] {
    return this.#index.unacknowledged();
  }

  retire(commandIds: readonly string[]): Promise<void> {
    this.#index.retire(commandIds);
    return this.#append(commandIds.map((id) => ({ kind: 'retire', id })));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#refusal ??= new HubError('unavailable', `the journal ${this.#path} is closed`);
    await this.#writing;
    await closeAsync(this.#file);
    this.#unlock();
  }

  #load(): { id: string | undefined; bytes: number } {
    const file = readFileSync(this.#path);
    let id: string | undefined;
    let at = 0;
    for (let read = readRecord(file, at); read; read = readRecord(file, at)) {
      if (read.record.kind === 'lineage') id = read.record.id;
      else this.#apply(read.record);
      at = read.end;
    }
    if (at < file.length) {
      const isDamaged = at === 0 ? file.length > lineageBytes : findProofOfDamage(file, at) !== undefined;
      if (isDamaged)
        throw new HubError(
          'internal',
          `the journal ${this.#path} is damaged at byte ${at} of ${file.length}. Restore it from a copy, or move it ` +
            'away to begin a new one: commands that were sent to this device and not answered then end as "unknown"',
        );
      ftruncateSync(this.#file, at);
      tell(this.#observe, { kind: 'journal-truncated', path: this.#path, bytes: file.length - at });
    }
    fsyncSync(this.#file);
    return { id, bytes: at };
  }

  #apply(record: Exclude<JournalRecord, { kind: 'lineage' }>): void {
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

  /** Begins a new lineage in an empty file. */
  #found(): void {
    const bytes = encodeRecord({ kind: 'lineage', id: this.id }, 0);
    writeSync(this.#file, bytes);
    fsyncSync(this.#file);
    syncDirectory(this.#directory);
    this.#written = this.#synced = this.#liveBytes = bytes.length;
  }

  #append(records: readonly JournalRecord[]): Promise<void> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    this.#pending.push(...records);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ resolve, reject });
    this.#writing ??= this.#writeAll();
    return promise;
  }

  /** Writes until nothing is pending: what comes during one round shares the next. */
  async #writeAll(): Promise<void> {
    // What is appended in this turn of the event loop goes with the first round.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiters.length > 0) {
      const waiters = this.#waiters;
      this.#waiters = [];
      try {
        await this.#writePending();
        for (const { resolve } of waiters) resolve();
      } catch (error) {
        for (const { reject } of waiters) reject(error);
      }
      if (this.#written > this.#compactBytes && this.#written > 2 * this.#liveBytes)
        await this.#compact().catch((error: unknown) => {
          // The old file is as good as before, only large: it is tried again when it has grown by as much.
          this.#liveBytes = this.#written;
          tell(this.#observe, { kind: 'journal-compaction-failed', path: this.#path, error });
        });
    }
    this.#writing = undefined;
  }

  async #writePending(): Promise<void> {
    const records = this.#pending;
    const needsSync = this.#needsSync;
    this.#pending = [];
    this.#needsSync = false;
    if (this.#isBroken) throw this.#refusal;
    const bytes = Buffer.concat(records.map((record) => encodeRecord(record, this.#synced)));
    try {
      for (let at = 0; at < bytes.length; )
        at += (await writeAsync(this.#file, bytes, at, bytes.length - at, null)).bytesWritten;
    } catch (error) {
      await truncateAsync(this.#file, this.#written).catch((reason: unknown) => this.#break(reason));
      throw error;
    }
    this.#written += bytes.length;
    if (!this.#fsync || !needsSync) return;
    await this.#sync(this.#file);
    this.#synced = this.#written;
  }

  /** Writes what is still needed into a new file, and puts it in the place of the old one. */
  async #compact(): Promise<void> {
    // The index knows what is pending too; that it is written again after this changes nothing.
    const records: JournalRecord[] = [{ kind: 'lineage', id: this.id }];
    for (const { commandId: id, idempotent, result } of this.#index.acknowledged()) {
      if (!result) records.push({ kind: 'forgotten', id, idempotent });
      else records.push({ kind: 'begin', id, idempotent }, { kind: 'finish', id, result }, { kind: 'retire', id });
    }
    for (const { commandId: id, idempotent, result } of this.#index.unacknowledged()) {
      records.push({ kind: 'begin', id, idempotent });
      if (result) records.push({ kind: 'finish', id, result });
    }
    const bytes = Buffer.concat(records.map((record) => encodeRecord(record, everything)));
    const next = openSync(`${this.#path}.new`, 'ax', 0o600);
    try {
      for (let at = 0; at < bytes.length; )
        at += (await writeAsync(next, bytes, at, bytes.length - at, null)).bytesWritten;
      await this.#sync(next);
      renameSync(`${this.#path}.new`, this.#path);
    } catch (error) {
      closeSync(next);
      rmSync(`${this.#path}.new`, { force: true });
      throw error;
    }
    const old = this.#file;
    this.#file = next;
    this.#written = this.#synced = this.#liveBytes = bytes.length;
    await closeAsync(old);
    syncDirectory(this.#directory);
    tell(this.#observe, { kind: 'journal-compacted', path: this.#path, bytes: bytes.length });
  }

  async #sync(file: number): Promise<void> {
    try {
      await fsyncAsync(file);
    } catch (error) {
      this.#break(error);
      throw error;
    }
  }

  /** What is on disk is not known any more: nothing may be begun on top of it. */
  #break(error: unknown): void {
    this.#isBroken = true;
    this.#refusal = new HubError('unavailable', `the journal ${this.#path} cannot be written: ${String(error)}`, {
      cause: error,
    });
  }
}

/** So that a new name in the directory survives the end of the machine. */
function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return; // Directories cannot be opened there.
  const file = openSync(directory, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
