import { HubError, toHubError } from '../errors.ts';
import { type OpenedDatabase, sqliteCode } from './database.ts';
import { readOperations, type StoreOperations } from './store-operations.ts';
import type { Answer, Call, Health, ThrownError } from './thread-messages.ts';

/** While the disk is full, writing is tried again this often. */
const probeEveryMs = 250;

/**
 * Runs calls in groups: one transaction, one fsync, for all that waited. Nothing is answered before the commit.
 * Fails closed: after a failed commit nobody knows what is on the disk, so nothing is accepted any more.
 */
export class Transactions {
  readonly #opened: OpenedDatabase;
  readonly #operations: StoreOperations;
  readonly #where: string;
  readonly #begin;
  readonly #commit;
  readonly #rollback;
  #health: Health = { state: 'well' };
  #probeAtMs = 0;
  #failures = 0;

  constructor(opened: OpenedDatabase, operations: StoreOperations, where: string) {
    this.#opened = opened;
    this.#operations = operations;
    this.#where = where;
    this.#begin = opened.db.prepare('BEGIN IMMEDIATE');
    this.#commit = opened.db.prepare('COMMIT');
    this.#rollback = opened.db.prepare('ROLLBACK');
  }

  get health(): Health {
    return this.#health;
  }

  /** How often writing failed. */
  get failures(): number {
    return this.#failures;
  }

  run(calls: readonly Call[], isFenced = false): Answer[] {
    const hasWrites = calls.some(([, operation]) => !readOperations.has(operation));
    if (!hasWrites) return calls.map((call) => this.#alone(call));
    if (isFenced || !this.#mayWrite()) return calls.map((call) => this.#refuse(call));
    try {
      return this.#together(calls);
    } catch (error) {
      this.#undo();
      if (this.#noteFailure(error)) return calls.map((call) => this.#refuse(call));
      // One call was at fault, and not the disk: the others must not suffer for it.
      return calls.length === 1 ? [failed(calls[0]![0], error)] : calls.flatMap((call) => this.run([call]));
    }
  }

  #together(calls: readonly Call[]): Answer[] {
    this.#begin.run();
    const answers = calls.map((call): Answer => {
      try {
        return [call[0], this.#call(call)];
      } catch (error) {
        // Operations refuse with a HubError before they change anything.
        if (error instanceof HubError) return failed(call[0], error);
        throw error;
      }
    });
    this.#operations.save();
    this.#commit.run();
    this.#health = { state: 'well' };
    return answers;
  }

  #alone(call: Call): Answer {
    try {
      return [call[0], this.#call(call)];
    } catch (error) {
      this.#noteFailure(error);
      return failed(call[0], error);
    }
  }

  #refuse(call: Call): Answer {
    if (readOperations.has(call[1])) return this.#alone(call);
    const reason = this.#health.state === 'well' ? `the store ${this.#where} failed a moment ago` : this.#health.reason;
    return failed(call[0], new HubError('unavailable', reason));
  }

  #call([, operation, args]: Call): unknown {
    return (this.#operations[operation] as (...args: readonly unknown[]) => unknown)(...args);
  }

  #mayWrite(): boolean {
    if (this.#health.state === 'broken') return false;
    if (this.#health.state === 'well') return true;
    const now = Date.now();
    if (now < this.#probeAtMs) return false;
    this.#probeAtMs = now + probeEveryMs;
    return true;
  }

  #undo(): void {
    try {
      if (this.#opened.db.inTransaction) this.#rollback.run();
      this.#operations.forget();
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  /** True when the disk is at fault. */
  #noteFailure(error: unknown): boolean {
    const code = sqliteCode(error);
    if (code === 'SQLITE_FULL') {
      this.#failures++;
      if (this.#health.state === 'broken') return true;
      this.#probeAtMs = Date.now() + probeEveryMs;
      const reason = `the store ${this.#where} is full (SQLITE_FULL): free disk space or raise its limit; writing goes on by itself`;
      this.#health = { state: 'full', reason };
      return true;
    }
    if (!/^SQLITE_(IOERR|CORRUPT|NOTADB|READONLY|CANTOPEN|PROTOCOL)/.test(code)) return false;
    this.#failures++;
    const what = error instanceof Error ? error.message : String(error);
    const reason = `the store ${this.#where} failed: ${what} (${code}). Nothing is accepted until a restart: check the disk with \`signalbox doctor\`, then start again`;
    this.#health = { state: 'broken', reason };
    return true;
  }
}

export function thrownError(error: unknown): ThrownError {
  if (sqliteCode(error)) {
    const code = sqliteCode(error);
    const advice = /^SQLITE_(CORRUPT|NOTADB)/.test(code) ? ': `signalbox doctor` tells what to do' : '';
    return {
      code: code.startsWith('SQLITE_BUSY') ? 'unavailable' : 'internal',
      message: `the store refused: ${(error as Error).message} (${code})${advice}`,
    };
  }
  const { code, message } = toHubError(error);
  return { code, message };
}

function failed(id: number, error: unknown): Answer {
  return [id, undefined, thrownError(error)];
}
