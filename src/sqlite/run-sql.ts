import type { Database } from './driver.ts';
import { type RunRow, type RunValues, runColumns } from './run-row.ts';

/** A run as a claim has to know it. */
export type ReadyRow = Pick<RunRow, 'position' | 'crashes' | 'limit_key' | 'concurrency'>;

/** What is asked of the table of runs, prepared once. `phase`, as the schema says: 0 later, 1 ready, 2 blocked, 3 running, 4 ended. */
export function runSql(db: Database) {
  const one = <P extends unknown[]>(sql: string) => db.prepare<P, RunRow>(sql);
  const number = <P extends unknown[]>(sql: string) => db.prepare<P, number>(sql).pluck();
  return {
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
}

export type RunSql = ReturnType<typeof runSql>;
