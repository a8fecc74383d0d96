import type { Run, RunError } from './run.ts';
import type { NewRun } from './run-store.ts';

// What every store has to decide in the same way.

/** Whether a repeated trigger asks for what is already there. */
export function isSameRun(stored: Run, run: NewRun): boolean {
  return stored.tenant === run.tenant && stored.task === run.task && stored.input === run.input;
}

export function conflictMessage(stored: Run, run: NewRun): string {
  return stored.id === run.id
    ? `run id ${run.id} is taken by another run`
    : `idempotency key "${run.idempotencyKey}" of task ${run.task} was used with another input, by run ${stored.id}`;
}

export function keyFullMessage({ task, concurrency }: NewRun): string {
  return `task ${task} has ${concurrency?.limit} active runs with the key "${concurrency?.key}", and no more are taken`;
}

export function queueFullMessage({ task }: NewRun, maxQueued: number): string {
  return `${maxQueued} runs wait already, so task ${task} cannot be triggered now`;
}

export const cancelledError = (reason: string): RunError => ({ code: 'cancelled', message: reason });
export const overdueError: RunError = { code: 'timed-out', message: 'the time of the whole run was over' };
export const workerLostError = (crashes: number): RunError => ({
  code: 'worker-lost',
  message: `its worker was lost ${crashes} times without a checkpoint in between`,
});
export const supersededReason = (run: NewRun): string => `a newer run of the key "${run.concurrency?.key}" came`;
export const newestReason = (run: NewRun): string =>
  `${run.concurrency?.limit} runs of the key "${run.concurrency?.key}" are active already`;

/** The name under which runs share a limit. */
export function limitKey(run: Pick<Run, 'tenant' | 'task' | 'concurrency'>): string | undefined {
  return run.concurrency && `${run.tenant}/${run.task}/${run.concurrency.key}`;
}
