import type { Run, RunConcurrency, RunState } from '../tasks/run.ts';
import { limitKey } from '../tasks/run-rules.ts';
import type { NewRun } from '../tasks/run-store.ts';

/** The columns of a run that make it, in the order of `RunRow`. */
const columns = [
  'position',
  'id',
  'tenant',
  'task',
  'input',
  'owner',
  'tags',
  'priority',
  'idempotency_key',
  'concurrency',
  'limit_key',
  'phase',
  'state',
  'epoch',
  'failures',
  'crashes',
  'due_at_ms',
  'deadline_ms',
  'created_at_ms',
  'started_at_ms',
  'updated_at_ms',
  'ended_at_ms',
  'cancel_reason',
  'checkpoint',
  'result',
  'error_code',
  'error_message',
  'announced',
] as const;

/** To be selected or returned by statements whose rows `runOf` or `runOfValues` read. */
export const runColumns = columns.join(', ');

export interface RunRow {
  position: number;
  id: string;
  tenant: string;
  task: string;
  input: string;
  owner: string | null;
  tags: string;
  priority: number;
  idempotency_key: string | null;
  concurrency: string | null;
  limit_key: string | null;
  phase: number;
  state: RunState;
  epoch: number;
  failures: number;
  crashes: number;
  due_at_ms: number;
  deadline_ms: number | null;
  created_at_ms: number;
  started_at_ms: number | null;
  updated_at_ms: number;
  ended_at_ms: number | null;
  cancel_reason: string | null;
  checkpoint: string | null;
  result: string | null;
  error_code: string | null;
  error_message: string | null;
  announced: number;
}

/** A row without the names of its columns: how runs go between threads, as names would cost more than what they name. */
export type RunValues = readonly (string | number | null)[];

/** A run on its way into the store, as values alone. */
export type NewRunValues = readonly [
  id: string,
  tenant: string,
  task: string,
  input: string,
  owner: string | null,
  tags: string,
  priority: number,
  idempotencyKey: string | null,
  concurrency: string | null,
  limitKey: string | null,
  dueAtMs: number,
  deadlineMs: number | null,
];

export function valuesOf(run: NewRun): NewRunValues {
  return [
    run.id,
    run.tenant,
    run.task,
    run.input,
    run.owner ?? null,
    run.tags.length === 0 ? '[]' : JSON.stringify(run.tags),
    run.priority,
    run.idempotencyKey ?? null,
    run.concurrency ? JSON.stringify(run.concurrency) : null,
    limitKey(run) ?? null,
    run.dueAtMs,
    run.deadlineMs ?? null,
  ];
}

export function newRunOf(values: NewRunValues): NewRun {
  const [id, tenant, task, input, owner, tags, priority, idempotencyKey, concurrency, , dueAtMs, deadlineMs] = values;
  return {
    id,
    tenant,
    task,
    input,
    owner: owner ?? undefined,
    tags: tagsOf(tags),
    priority,
    idempotencyKey: idempotencyKey ?? undefined,
    concurrency: concurrencyOf(concurrency),
    dueAtMs,
    deadlineMs: deadlineMs ?? undefined,
  };
}

/** A run as the store has it the moment it was added. */
export function addedRun(run: NewRun, nowMs: number, isClaimed: boolean): Run {
  return {
    ...run,
    state: isClaimed ? 'running' : 'queued',
    epoch: isClaimed ? 1 : 0,
    failures: 0,
    crashes: 0,
    createdAtMs: nowMs,
    startedAtMs: isClaimed ? nowMs : undefined,
    updatedAtMs: nowMs,
    endedAtMs: undefined,
    cancelReason: undefined,
    checkpoint: undefined,
    result: undefined,
    error: undefined,
  };
}

export function runOfValues(values: RunValues): Run {
  const row: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) row[columns[i]!] = values[i];
  return runOf(row as unknown as RunRow);
}

export function runOf(row: RunRow): Run {
  return {
    id: row.id,
    tenant: row.tenant,
    task: row.task,
    input: row.input,
    owner: row.owner ?? undefined,
    tags: tagsOf(row.tags),
    priority: row.priority,
    idempotencyKey: row.idempotency_key ?? undefined,
    concurrency: concurrencyOf(row.concurrency),
    state: row.state,
    epoch: row.epoch,
    failures: row.failures,
    crashes: row.crashes,
    dueAtMs: row.due_at_ms,
    deadlineMs: row.deadline_ms ?? undefined,
    createdAtMs: row.created_at_ms,
    startedAtMs: row.started_at_ms ?? undefined,
    updatedAtMs: row.updated_at_ms,
    endedAtMs: row.ended_at_ms ?? undefined,
    cancelReason: row.cancel_reason ?? undefined,
    checkpoint: row.checkpoint ?? undefined,
    result: row.result ?? undefined,
    error: row.error_code === null ? undefined : { code: row.error_code, message: row.error_message ?? '' },
    isTold: row.announced === 1 ? true : undefined,
  };
}

const tagsOf = (text: string): string[] => (text === '[]' ? [] : JSON.parse(text));
const concurrencyOf = (text: string | null): RunConcurrency | undefined =>
  text === null ? undefined : JSON.parse(text);
