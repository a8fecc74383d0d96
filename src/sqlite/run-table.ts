import type { Database } from 'better-sqlite3';
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
import { type NewRunValues, newRunOf, type RunRow, type RunValues, runColumns, runOf } from './run-row.ts';

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

/** A run as a claim has to know it. */
type ReadyRow = Pick<RunRow, 'position' | 'crashes' | 'limit_key' | 'concurrency'>;

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
  readonly #sql;
  #queued = 0;

  constructor(db: Database) {
    this.#db = db;
    const one = <P extends unknown[]>(sql: string) => db.prepare<P, RunRow>(sql);
    const number = <P extends unknown[]>(sql: string) => db.prepare<P, number>(sql).pluck();
    this.#sql = {
      byId: one<[string]>('SELECT * FROM runs WHERE id = ?'),
      byKey: one<[string, string, string]>('SELECT * FROM runs WHERE tenant = ? AND task = ? AND idempotency_key = ?'),
      insert: db.prepare<unknown[]>(
        `INSERT INTO runs (id, tenant, task, input, owner, tags, priority, idempotency_key, concurrency, limit_key,
           due_at_ms, deadline_ms, phase, state, epoch, failures, crashes, created_at_ms, started_at_ms, updated_at_ms,
           claimed_until_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
      ),
      /** Whether a run waits that may have to come before a new one: of its priority or a higher one, or due by now. */
      waits: number<[number, number]>(
        `SELECT EXISTS (SELECT 1 FROM runs WHERE phase = 1 AND priority >= ?)
             OR EXISTS (SELECT 1 FROM runs WHERE phase = 0 AND due_at_ms <= ?)`,
      ),
      active: one<[string]>('SELECT * FROM runs WHERE limit_key = ? AND phase < 4 ORDER BY position'),
      runningOf: number<[string]>('SELECT count(*) FROM runs WHERE limit_key = ? AND phase = 3'),
      nextBlocked: number<[string]>(
        'SELECT position FROM runs WHERE limit_key = ? AND phase = 2 ORDER BY position LIMIT 1',
      ),
      phase: db.prepare<[number, number]>('UPDATE runs SET phase = ? WHERE position = ?'),
      promote: db.prepare<[number]>('UPDATE runs SET phase = 1 WHERE phase = 0 AND due_at_ms <= ?'),
      overdue: one<[number, number]>(
        'SELECT * FROM runs WHERE phase < 3 AND deadline_ms IS NOT NULL AND deadline_ms <= ? LIMIT ?',
      ),
      lost: one<[number, string, number]>(
        `SELECT * FROM runs WHERE phase = 3 AND claimed_until_ms <= ? AND task IN (SELECT value FROM json_each(?))
           ORDER BY claimed_until_ms LIMIT ?`,
      ),
      ready: db.prepare<[string, number], ReadyRow>(
        `SELECT position, crashes, limit_key, concurrency FROM runs
           WHERE phase = 1 AND task IN (SELECT value FROM json_each(?)) ORDER BY priority DESC, position LIMIT ?`,
      ),
      nextDue: number<[]>(
        `SELECT min(at) FROM (
           SELECT min(due_at_ms) AS at FROM runs WHERE phase = 0 UNION ALL
           SELECT min(claimed_until_ms) FROM runs WHERE phase = 3 UNION ALL
           SELECT min(deadline_ms) FROM runs WHERE phase < 3 AND deadline_ms IS NOT NULL)`,
      ),
      start: db
        .prepare<[number, number, number, number, number], RunValues>(
          `UPDATE runs SET phase = 3, state = 'running', epoch = epoch + 1, claimed_until_ms = ?, crashes = ?,
             started_at_ms = coalesce(started_at_ms, ?), updated_at_ms = ? WHERE position = ? RETURNING ${runColumns}`,
        )
        .raw(),
      standing: one<[string, number]>('SELECT * FROM runs WHERE id = ? AND phase = 3 AND epoch = ?'),
      renew: db.prepare<[number, number]>('UPDATE runs SET claimed_until_ms = ? WHERE position = ?'),
      checkpoint: db.prepare<[string, number, string, number]>(
        'UPDATE runs SET checkpoint = ?, crashes = 0, updated_at_ms = ? WHERE id = ? AND phase = 3 AND epoch = ?',
      ),
      again: one<unknown[]>(
        `UPDATE runs SET phase = ?, state = 'queued', due_at_ms = ?, failures = ?, error_code = ?, error_message = ?,
           updated_at_ms = ? WHERE position = ? RETURNING *`,
      ),
      end: one<unknown[]>(
        `UPDATE runs SET phase = 4, state = ?, failures = ?, result = ?, error_code = ?, error_message = ?,
           checkpoint = NULL, cancel_reason = ?, ended_at_ms = ?, updated_at_ms = ? WHERE position = ? RETURNING *`,
      ),
      endTold: db
        .prepare<unknown[], string | null>(
          `UPDATE runs SET phase = 4, announced = 1, state = ?, failures = failures + ?, result = ?, error_code = ?,
             error_message = ?, checkpoint = NULL, ended_at_ms = ?, updated_at_ms = ?
             WHERE id = ? AND phase = 3 AND epoch = ? RETURNING limit_key`,
        )
        .pluck(),
      ask: one<[string, number, number]>(
        'UPDATE runs SET cancel_reason = coalesce(cancel_reason, ?), updated_at_ms = ? WHERE position = ? RETURNING *',
      ),
      unannounced: one<[number]>('SELECT * FROM runs WHERE phase = 4 AND announced = 0 ORDER BY position LIMIT ?'),
      announced: db.prepare<[string]>('UPDATE runs SET announced = 1 WHERE id = ? AND phase = 4'),
      orphan: db.prepare('UPDATE runs SET claimed_until_ms = 0 WHERE phase = 3'),
      prune: db.prepare<[number, number]>(
        `DELETE FROM runs WHERE position IN (SELECT position FROM runs
           WHERE phase = 4 AND announced = 1 AND ended_at_ms < ? ORDER BY ended_at_ms LIMIT ?)`,
      ),
      pruneMany: db.prepare<[number, number]>(
        `DELETE FROM runs WHERE position IN (SELECT position FROM runs
           WHERE phase = 4 AND announced = 1 ORDER BY ended_at_ms DESC, position DESC LIMIT ? OFFSET ?)`,
      ),
      queued: number<[]>('SELECT count(*) FROM runs WHERE phase < 3'),
    };
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
