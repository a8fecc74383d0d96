import { randomUUID } from 'node:crypto';
import {
  close,
  closeSync,
  fsync,
  fsyncSync,
  ftruncate,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HubError } from '../../errors.ts';
import { tell } from '../facts.ts';
import { type EntryRecord, encodeRecord, findProofOfDamage, readRecord } from './journal-records.ts';

/** What a file journal tells. */
export type JournalFact =
  /** A write that a crash had cut off was taken out; nothing was ever begun or told because of it. */
  | { readonly kind: 'journal-truncated'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'journal-compacted'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'journal-compaction-failed'; readonly path: string; readonly error: unknown };

export interface JournalLogOptions {
  /** Whether what asks for it is on disk before it counts as written. */
  readonly fsync: boolean;
  /** The file is written anew when it is larger than this, in bytes, and mostly of the past. */
  readonly compactBytes: number;
  /** Hears what is in the file as it is opened, in order. */
  readonly onRecord: (record: EntryRecord) => void;
  /** All that a new file has to say. */
  readonly needed: () => EntryRecord[];
  readonly observe: ((fact: JournalFact) => void) | undefined;
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

/** A file to which records are appended, those that come together in one write; it is written anew when it has grown. */
export class JournalLog {
  /** Names the file's lineage: the same as long as its content goes on. */
  readonly id: string;
  readonly #directory: string;
  readonly #path: string;
  readonly #options: JournalLogOptions;
  #file: number;
  /** Bytes that are whole in the file, and how many of them are certainly on disk. */
  #written: number;
  #synced: number;
  /** Size of the file when it was last written anew, to know how much of it is past. */
  #liveBytes: number;
  #pending: EntryRecord[] = [];
  #waiters: Waiter[] = [];
  #needsSync = false;
  #writing: Promise<void> | undefined;
  #refusal: HubError | undefined;
  #isBroken = false;

  /** Throws `internal` when the file is damaged, and what the file system throws. */
  constructor(directory: string, options: JournalLogOptions) {
    this.#directory = directory;
    this.#path = join(directory, 'journal.log');
    this.#options = options;
    // What a compaction that a crash cut off has left.
    rmSync(`${this.#path}.new`, { force: true });
    this.#file = openSync(this.#path, 'a+', 0o600);
    try {
      const { id, bytes } = this.#load();
      this.id = id ?? randomUUID();
      this.#written = this.#synced = this.#liveBytes = id === undefined ? this.#found() : bytes;
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** Why nothing more is recorded: it is closed, or what is on disk is not known any more. */
  get refusal(): HubError | undefined {
    return this.#refusal;
  }

  /** Resolves when the records are written; with `needsSync`, when they survive the end of the machine. */
  append(records: readonly EntryRecord[], needsSync: boolean): Promise<void> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    if (needsSync) this.#needsSync = true;
    this.#pending.push(...records);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ resolve, reject });
    this.#writing ??= this.#writeAll();
    return promise;
  }

  /** Takes nothing more, and resolves when what was taken is written. */
  async close(): Promise<void> {
    this.#refusal ??= new HubError('unavailable', `the journal ${this.#path} is closed`);
    await this.#writing;
    await closeAsync(this.#file);
  }

  #load(): { id: string | undefined; bytes: number } {
    const file = readFileSync(this.#path);
    let id: string | undefined;
    let at = 0;
    for (let read = readRecord(file, at); read; read = readRecord(file, at)) {
      if (read.record.kind === 'lineage') id = read.record.id;
      else this.#options.onRecord(read.record);
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
      tell(this.#options.observe, { kind: 'journal-truncated', path: this.#path, bytes: file.length - at });
    }
    fsyncSync(this.#file);
    return { id, bytes: at };
  }

  /** Begins a new lineage in an empty file. How many bytes it has then. */
  #found(): number {
    const bytes = encodeRecord({ kind: 'lineage', id: this.id }, 0);
    writeSync(this.#file, bytes);
    fsyncSync(this.#file);
    syncDirectory(this.#directory);
    return bytes.length;
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
      if (this.#written > this.#options.compactBytes && this.#written > 2 * this.#liveBytes)
        await this.#compact().catch((error: unknown) => {
          // The old file is as good as before, only large: it is tried again when it has grown by as much.
          this.#liveBytes = this.#written;
          tell(this.#options.observe, { kind: 'journal-compaction-failed', path: this.#path, error });
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
      await writeWhole(this.#file, bytes);
    } catch (error) {
      await truncateAsync(this.#file, this.#written).catch((reason: unknown) => this.#break(reason));
      throw error;
    }
    this.#written += bytes.length;
    if (!this.#options.fsync || !needsSync) return;
    await this.#sync(this.#file);
    this.#synced = this.#written;
  }

  /** Writes what is still needed into a new file, and puts it in the place of the old one. */
  async #compact(): Promise<void> {
    const records = [{ kind: 'lineage', id: this.id } as const, ...this.#options.needed()];
    const bytes = Buffer.concat(records.map((record) => encodeRecord(record, everything)));
    const next = openSync(`${this.#path}.new`, 'ax', 0o600);
    try {
      await writeWhole(next, bytes);
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
    tell(this.#options.observe, { kind: 'journal-compacted', path: this.#path, bytes: bytes.length });
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

async function writeWhole(file: number, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await writeAsync(file, bytes, at, bytes.length - at, null)).bytesWritten;
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
