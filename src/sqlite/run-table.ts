import { isTerminalRun, type Run, type RunError, type RunState, type TerminalRunState } from '../tasks/run.ts';
import {
  cancelledError,
  conflictMessage,
  isSameRun,
  keyFullMessage,
  newestReason,
  overdueError,
  queueFullMessage,
  supersededReason,
  workerLostError,
} from '../tasks/run-rules.ts';
import type { AddRunOutcome, AttemptEnd, Claim, ClaimRequest, RenewOutcome, RunFilter } from '../tasks/run-store.ts';
import type { Database } from './driver.ts';
import { type NewRunValues, newRunOf, type RunRow, type RunValues, runOf } from './run-row.ts';
import { type ReadyRow, type RunSql, runSql } from './run-sql.ts';

/** What a claim found; runs as values, as there may be hundreds. */
export interface ClaimedRows {
  readonly runs: readonly RunValues[];
  readonly ended: readonly Run[];
  readonly nextDueMs: number | undefined;
}

export interface AddOptions {
  readonly nowMs: number;
  readonly maxQueued: number;
  /** Set: the run is claimed until then, if it is due and nothing that came before it waits. */
  readonly untilMs: number | undefined;
}

/** What to end a run with, in one row. */
export interface EndValues {
  readonly state: TerminalRunState;
  readonly isFailure: boolean;
  readonly result: string | null;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
}

/** In which line a run stands, as the schema says. */
const later = 0;
const ready = 1;
const blocked = 2;
const running = 3;

/** Runs taken out of one line in one call. */
const slice = 500;

/** The runs in the database. Runs in the store's thread; the caller makes the transactions. */
export class RunTable {
  readonly #db: Database;
  readonly #sql: RunSql;
  #queued = 0;

  constructor(db: Database) {
    this.#db = db;
    this.#sql = runSql(db);
    this.forget();
  }

  /** Counts again what it remembers: after a rollback that may be wrong. */
  forget(): void {
    this.#queued = this.#sql.queued.get() ?? 0;
  }

  /** Takes the claims of a process that is gone: nobody else can have this database open. */
  orphan(): number {
    return this.#sql.orphan.run().changes;
  }

  /** `queued` and `running` stand for a run that was stored, and is as it was given. */
  add(values: NewRunValues, { nowMs, maxQueued, untilMs }: AddOptions): AddRunOutcome | 'queued' | 'running' {
    const [id, tenant, task, , , , priority, idempotencyKey, concurrency, key, dueAtMs] = values;
    const mayClaim = untilMs !== undefined && dueAtMs <= nowMs && !this.#mayWait(priority, nowMs);
    // Most runs have nothing to be compared with but their id, and inserting them finds that out.
    if (idempotencyKey === null && concurrency === null && this.#queued < maxQueued) {
      if (this.#insert(values, nowMs, mayClaim ? untilMs : undefined)) return mayClaim ? 'running' : 'queued';
    }
    const known =
      this.#sql.byId.get(id) ??
      (idempotencyKey === null ? undefined : this.#sql.byKey.get(tenant, task, idempotencyKey));
    const run = newRunOf(values);
    if (known) {
      const stored = runOf(known);
      return isSameRun(stored, run)
        ? { kind: 'existing', run: stored }
        : { kind: 'conflict', message: conflictMessage(stored, run) };
    }
    const onFull = run.concurrency?.onFull;
    const active = key === null || onFull === 'queue' ? [] : this.#sql.active.all(key);
    const surplus = run.concurrency ? active.length - run.concurrency.limit + 1 : 0;
    if (surplus > 0 && onFull === 'reject') return { kind: 'full', message: keyFullMessage(run) };
    if (this.#queued >= maxQueued) return { kind: 'full', message: queueFullMessage(run, maxQueued) };
    const cancelled =
      surplus > 0 && onFull === 'cancel-oldest'
        ? active
            .filter((row) => row.cancel_reason === null)
            .slice(0, surplus)
            .map((row) => runOf(this.#ask(row, supersededReason(run), nowMs)))
        : [];
    if (surplus > 0 && onFull === 'cancel-newest') {
      this.#insert(values, nowMs, undefined);
      const ended = this.#ask(this.#sql.byId.get(id)!, newestReason(run), nowMs);
      return { kind: 'stored', run: runOf(ended), cancelled };
    }
    const isClaimed = mayClaim && this.#hasRoom({ limit_key: key, concurrency });
    this.#insert(values, nowMs, isClaimed ? untilMs : undefined);
    if (cancelled.length > 0) return { kind: 'stored', run: runOf(this.#sql.byId.get(id)!), cancelled };
    return isClaimed ? 'running' : 'queued';
  }

  #mayWait(priority: number, nowMs: number): boolean {
    return this.#queued > 0 && this.#sql.waits.get(priority, nowMs) === 1;
  }

  /** False when there is a run with this id. */
  #insert(values: NewRunValues, nowMs: number, untilMs: number | undefined): boolean {
    if (untilMs !== undefined)
      return this.#sql.insert.run(...values, running, 'running', 1, nowMs, nowMs, nowMs, untilMs).changes > 0;
    const phase = values[10] <= nowMs ? ready : later;
    if (this.#sql.insert.run(...values, phase, 'queued', 0, nowMs, null, nowMs, null).changes === 0) return false;
    this.#queued++;
    return true;
  }

  claim(request: ClaimRequest): ClaimedRows {
    const { nowMs, tasks, limit, maxCrashes, id } = request;
    const names = JSON.stringify(tasks);
    const runs: RunValues[] = [];
    const ended: Run[] = [];
    for (const row of this.#sql.overdue.all(nowMs, slice))
      ended.push(runOf(this.#end(row, 'failed', nowMs, overdueError)));
    this.#sql.promote.run(nowMs);
    for (const row of this.#sql.lost.all(nowMs, names, Math.min(limit, slice))) {
      if (id !== undefined && row.id !== id) continue;
      row.crashes++;
      if (row.cancel_reason !== null)
        ended.push(runOf(this.#end(row, 'cancelled', nowMs, cancelledError(row.cancel_reason))));
      else if (row.crashes > maxCrashes)
        ended.push(runOf(this.#end(row, 'failed', nowMs, workerLostError(row.crashes))));
      else runs.push(this.#start(row, request));
    }
    for (let isMore = true; isMore && runs.length < limit; ) {
      const rows = id === undefined ? this.#sql.ready.all(names, limit - runs.length) : this.#readyOne(id, tasks);
      for (const row of rows) {
        if (this.#hasRoom(row)) {
          this.#queued--;
          runs.push(this.#start(row, request));
        } else this.#sql.phase.run(blocked, row.position);
      }
      isMore = rows.length > 0 && id === undefined;
    }
    return { runs, ended, nextDueMs: this.#sql.nextDue.get() ?? undefined };
  }

  renew(claims: readonly Claim[], { untilMs }: { untilMs: number }): RenewOutcome[] {
    return claims.map(({ id, epoch }): RenewOutcome => {
      const row = this.#sql.standing.get(id, epoch);
      if (!row) return 'lost';
      this.#sql.renew.run(untilMs, row.position);
      return row.cancel_reason === null ? 'kept' : { cancelReason: row.cancel_reason };
    });
  }

  checkpoint({ id, epoch }: Claim, data: string, nowMs: number): boolean {
    return this.#sql.checkpoint.run(data, nowMs, id, epoch).changes > 0;
  }

  settle({ id, epoch }: Claim, how: AttemptEnd, nowMs: number): Run | undefined {
    const row = this.#sql.standing.get(id, epoch);
    if (!row) return undefined;
    // A cancel that came while the attempt was ending: there is no other one to hear of it.
    if (row.cancel_reason !== null && (how.kind === 'retry' || how.kind === 'released'))
      return runOf(this.#end(row, 'cancelled', nowMs, cancelledError(row.cancel_reason)));
    switch (how.kind) {
      case 'succeeded':
        return runOf(this.#end({ ...row, result: how.result }, 'succeeded', nowMs));
      case 'failed':
        return runOf(this.#end({ ...row, failures: row.failures + 1 }, 'failed', nowMs, how.error));
      case 'cancelled':
        return runOf(this.#end(row, 'cancelled', nowMs, how.error));
      case 'retry':
        return this.#again(row, how.dueAtMs, nowMs, how.error);
      case 'released':
        return this.#again(row, how.dueAtMs ?? nowMs, nowMs);
      default:
        return how satisfies never;
    }
  }

  /** Ends an attempt whose end is told in the same transaction. False when the claim does not stand any more. */
  endTold(id: string, epoch: number, end: EndValues, nowMs: number): boolean {
    const { state, isFailure, result, errorCode, errorMessage } = end;
    const failures = isFailure ? 1 : 0;
    const key = this.#sql.endTold.get(state, failures, result, errorCode, errorMessage, nowMs, nowMs, id, epoch);
    if (key === undefined) return false;
    this.#unblock(key);
    return true;
  }

  cancel(tenant: string, id: string, reason: string, nowMs: number): Run | undefined {
    const row = this.#sql.byId.get(id);
    if (!row || row.tenant !== tenant) return undefined;
    return runOf(isTerminalRun(row.state) ? row : this.#ask(row, reason, nowMs));
  }

  unannounced(limit: number): Run[] {
    return this.#sql.unannounced.all(limit).map(runOf);
  }

  announced(ids: readonly string[]): void {
    for (const id of ids) this.#sql.announced.run(id);
  }

  get(tenant: string, id: string): Run | undefined {
    const row = this.#sql.byId.get(id);
    return row?.tenant === tenant ? runOf(row) : undefined;
  }

  list({ tenant, task, owner, state, tag, limit }: RunFilter): Run[] {
    const where = ['tenant = ?'];
    const values: unknown[] = [tenant];
    for (const [column, value] of Object.entries({ task, owner, state }))
      if (value !== undefined) {
        where.push(`${column} = ?`);
        values.push(value);
      }
    if (tag !== undefined) {
      where.push('EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)');
      values.push(tag);
    }
    return this.#db
      .prepare<unknown[], RunRow>(`SELECT * FROM runs WHERE ${where.join(' AND ')} ORDER BY position DESC LIMIT ?`)
      .all(...values, limit)
      .map(runOf);
  }

  /** Forgets at most `slice` ended runs beyond the limits. */
  prune(endedBeforeMs: number, maxEnded: number): number {
    const { changes } = this.#sql.prune.run(endedBeforeMs, slice);
    return changes > 0 || !Number.isFinite(maxEnded) ? changes : this.#sql.pruneMany.run(slice, maxEnded).changes;
  }

  #readyOne(id: string, tasks: readonly string[]): ReadyRow[] {
    const row = this.#sql.byId.get(id);
    return row?.phase === ready && tasks.includes(row.task) ? [row] : [];
  }

  #hasRoom({ limit_key: key, concurrency }: Pick<ReadyRow, 'limit_key' | 'concurrency'>): boolean {
    return key === null || concurrency === null || (this.#sql.runningOf.get(key) ?? 0) < JSON.parse(concurrency).limit;
  }

  #start({ position, crashes }: ReadyRow, { nowMs, untilMs }: ClaimRequest): RunValues {
    return this.#sql.start.get(untilMs, crashes, nowMs, nowMs, position)!;
  }

  #ask(row: RunRow, reason: string, nowMs: number): RunRow {
    if (row.phase === running) return this.#sql.ask.get(reason, nowMs, row.position)!;
    return this.#end({ ...row, cancel_reason: reason }, 'cancelled', nowMs, cancelledError(reason));
  }

  #again(row: RunRow, dueAtMs: number, nowMs: number, error?: RunError): Run {
    const failures = error ? row.failures + 1 : row.failures;
    const code = error ? error.code : row.error_code;
    const message = error ? error.message : row.error_message;
    const phase = dueAtMs <= nowMs ? ready : later;
    const next = this.#sql.again.get(phase, dueAtMs, failures, code, message, nowMs, row.position)!;
    this.#queued++;
    this.#unblock(row.limit_key);
    return runOf(next);
  }

  #end(row: RunRow, state: RunState, nowMs: number, error?: RunError): RunRow {
    if (row.phase === running) this.#unblock(row.limit_key);
    else this.#queued--;
    return this.#sql.end.get(
      state,
      row.failures,
      row.result,
      error?.code ?? null,
      error?.message ?? null,
      row.cancel_reason,
      nowMs,
      nowMs,
      row.position,
    )!;
  }

  /** Lets the next run of the same key come, as this one gives its place back. */
  #unblock(key: string | null): void {
    if (key === null) return;
    const position = this.#sql.nextBlocked.get(key);
    if (position !== undefined) this.#sql.phase.run(ready, position);
  }
}
