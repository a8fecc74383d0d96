import { HubError } from '../errors.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { ActiveRun } from './active-run.ts';
import { contextOf } from './announcer.ts';
import type { Task } from './define-task.ts';
import type { HostPools } from './isolation/host-pools.ts';
import { type Job, type JobHost, perform, runErrorOf } from './perform.ts';
import { type RunError, runChannel } from './run.ts';
import type { AttemptEnd } from './run-store.ts';
import type { Telling } from './telling.ts';

export interface AttemptSetting {
  readonly hosts: HostPools;
  readonly clock: Clock;
  readonly random: () => number;
  readonly maxResultBytes: number;
  readonly transport: CommandTransport | undefined;
  readonly telling: Telling;
}

/** Does one attempt and says how it ended. Never rejects, and ends: by itself, or a grace after it was told to stop. */
export async function attempt(task: Task, active: ActiveRun, setting: AttemptSetting): Promise<AttemptEnd> {
  const { clock } = setting;
  const { run } = active;
  const letGo: (() => void)[] = [];
  const limit = (ms: number | undefined, what: string, isFinal: boolean): void => {
    if (ms !== undefined)
      letGo.push(clock.after(Math.max(0, ms), () => active.stop({ kind: 'timed-out', what, isFinal })));
  };
  limit(task.timeout.attemptMs, `attempt ${run.epoch} took longer than ${task.timeout.attemptMs} ms`, false);
  if (run.deadlineMs !== undefined)
    limit(run.deadlineMs - clock.now(), `it took longer than ${task.timeout.totalMs} ms in all`, true);
  const stopHost = task.isolation === 'inline' ? undefined : new AbortController();
  const graceOver = active.whenStopped.then(
    () =>
      new Promise<void>((resolve) => {
        letGo.push(clock.after(task.timeout.graceMs, resolve));
      }),
  );
  try {
    const job = jobOf(active, setting.maxResultBytes);
    const host: JobHost = {
      sink: setting.telling.sink,
      get signal() {
        return active.signal;
      },
      transport: setting.transport,
      checkpoint: (data) => setting.telling.checkpoint(active, data),
    };
    const done = active.stopped
      ? Promise.reject(active.signal.reason)
      : stopHost
        ? setting.hosts.run(task, job, host, stopHost.signal)
        : perform(task, job, host, clock);
    const outcome = await Promise.race([
      done.then(
        (result) => ({ result }),
        (error: unknown) => ({ error }),
      ),
      graceOver.then(() => ({ error: active.signal.reason as unknown })),
    ]);
    if ('result' in outcome && active.stopped?.kind !== 'timed-out')
      return { kind: 'succeeded', result: outcome.result };
    return endOf(task, active, 'error' in outcome ? outcome.error : active.signal.reason, setting);
  } catch (error) {
    return endOf(task, active, error, setting);
  } finally {
    stopHost?.abort(attemptOver);
    for (const each of letGo) each();
  }
}

/** Made once: every abort without a reason would make an exception. */
const attemptOver = new HubError('unavailable', 'the attempt is over');

function endOf(task: Task, active: ActiveRun, thrown: unknown, { clock, random }: AttemptSetting): AttemptEnd {
  const { run, stopped } = active;
  if (stopped?.kind === 'cancelled')
    return { kind: 'cancelled', error: { code: 'cancelled', message: stopped.reason } };
  if (stopped?.kind === 'closing' || stopped?.kind === 'lost') return { kind: 'released' };
  // Not the task's fault, so it costs none of its attempts.
  if (active.isUnkept) return { kind: 'released', dueAtMs: clock.now() + Math.round(1000 * (0.5 + random())) };
  const error: RunError =
    stopped?.kind === 'timed-out' ? { code: 'timed-out', message: stopped.what } : runErrorOf(thrown);
  if (stopped?.kind === 'timed-out' && stopped.isFinal) return { kind: 'failed', error };
  const { attempts, minMs, maxMs, when = (each) => each.code !== 'invalid-argument' } = task.retry;
  if (run.failures + 1 >= attempts || !mayRetry(when, error)) return { kind: 'failed', error };
  const backoff = new Backoff({ minMs, maxMs, random });
  for (let i = 0; i < run.failures; i++) backoff.next();
  return { kind: 'retry', error, dueAtMs: clock.now() + Math.round(backoff.next()) };
}

function mayRetry(when: (error: RunError) => boolean, error: RunError): boolean {
  try {
    return when(error);
  } catch {
    return false; // the task's own rule fell: its first error is what counts
  }
}

function jobOf({ run }: ActiveRun, maxResultBytes: number): Job {
  return {
    runId: run.id,
    task: run.task,
    tenant: run.tenant,
    owner: run.owner,
    attempt: run.epoch,
    input: run.input,
    checkpoint: run.checkpoint,
    maxResultBytes,
    stream: {
      channelId: run.id,
      channel: runChannel(run.id),
      tenant: run.tenant,
      persistEvents: true,
      context: contextOf(run),
      fence: { runId: run.id, epoch: run.epoch },
    },
  };
}
