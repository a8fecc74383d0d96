/** Where a run stands. The last three are terminal and never change. */
export const runStates = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type RunState = (typeof runStates)[number];
export type TerminalRunState = 'succeeded' | 'failed' | 'cancelled';

/** Why a run failed or was cancelled. */
export interface RunError {
  /** A word to branch on: `error` for what the task threw, `timed-out`, `cancelled`, `worker-lost`, or a `HubError`'s. */
  readonly code: string;
  readonly message: string;
}

/** One execution of a task, as it is kept. */
export interface Run {
  readonly id: string;
  readonly tenant: string;
  /** The task's id. */
  readonly task: string;
  /** The input as JSON text, checked when it was triggered. */
  readonly input: string;
  /** Whose run it is: a subject. Its end is also told on `user.<owner>`. */
  readonly owner: string | undefined;
  readonly tags: readonly string[];
  /** Higher runs first. */
  readonly priority: number;
  readonly idempotencyKey: string | undefined;
  readonly concurrency: RunConcurrency | undefined;
  readonly state: RunState;
  /** Grows with every claim by a worker; what an older claim does is refused. 0: not started yet. */
  readonly epoch: number;
  /** Attempts that ended with an error. */
  readonly failures: number;
  /** Attempts in a row whose worker was lost before a checkpoint was kept. */
  readonly crashes: number;
  /** Unix ms; later than `createdAtMs` for a delayed run, or one that waits for its next attempt. */
  readonly dueAtMs: number;
  /** Unix ms at which the whole run fails, whatever it does; undefined: never. */
  readonly deadlineMs: number | undefined;
  readonly createdAtMs: number;
  readonly startedAtMs: number | undefined;
  readonly updatedAtMs: number;
  readonly endedAtMs: number | undefined;
  /** Why it was asked to stop; undefined: nobody asked. */
  readonly cancelReason: string | undefined;
  /** What `ctx.checkpoint` kept last, as JSON text. */
  readonly checkpoint: string | undefined;
  /** The result as JSON text, once succeeded. */
  readonly result: string | undefined;
  /** Of the end, or of the attempt before while it is tried again. */
  readonly error: RunError | undefined;
  /** Set by stores that know it: its end is in its channel already. */
  readonly isTold?: true | undefined;
}

export interface RunConcurrency {
  readonly key: string;
  /** Runs of one task and key at once. */
  readonly limit: number;
  readonly onFull: WhenFull;
}

/** What happens to a run when as many of its key are active already. */
export type WhenFull =
  /** It waits. */
  | 'queue'
  /** It is refused: `trigger` throws `resource-exhausted`. */
  | 'reject'
  /** The oldest active one is cancelled, and this one runs once that has ended. */
  | 'cancel-oldest'
  /** This one is accepted, and cancelled at once. */
  | 'cancel-newest';

export function isTerminalRun(state: RunState): state is TerminalRunState {
  return state !== 'queued' && state !== 'running';
}

export const runChannel = (runId: string): string => `task.${runId}`;
export const userChannel = (userId: string): string => `user.${userId}`;
