import { inspect } from 'node:util';
import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandError, Payload, TerminalState } from '../protocol/command.ts';
import type { Answers } from './answers.ts';
import { CommandRejected } from './command-rejected.ts';
import { type DeviceFact, tell } from './facts.ts';
import { type CommandHandler, isPromise } from './handlers.ts';
import type { Job, Stop } from './job.ts';
import type { Journal } from './journal/journal.ts';
import type { Reports } from './reports.ts';

export interface RunnerOptions {
  readonly journal: Journal;
  readonly answers: Answers;
  readonly reports: Reports;
  readonly clock: Clock;
  /** A command has ended, and its place is free. */
  readonly onEnded: (job: Job) => void;
  /** Asks for a call of `endTurn` once this turn of the event loop is over. */
  readonly wantTurnEnd: () => void;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/** Runs commands: each is written into the journal, handed to its handler, and answered however that ends. */
export class Runner {
  readonly #options: RunnerOptions;
  /** Begun in this turn of the event loop, and not ended at once. */
  #newJobs: Job[] = [];
  #running = 0;
  #onIdle: (() => void) | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Commands that are beginning or running. */
  get running(): number {
    return this.#running;
  }

  /** Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** Takes a command from its waiting to its end. */
  start(job: Job, handler: CommandHandler): void {
    this.#running++;
    job.letGo();
    job.phase = 'beginning';
    let begun: Promise<void> | undefined;
    try {
      begun = this.#options.journal.begin(job.commandId, { idempotent: job.command.idempotent });
    } catch (error) {
      begun = Promise.reject(error);
    }
    if (!begun) this.#run(job, handler);
    else
      begun.then(
        () => this.#run(job, handler),
        (error: unknown) => this.#notBegun(job, error),
      );
  }

  /** Asks the handler to stop; whatever it does then, this is how the command ends. */
  stop(job: Job, kind: Stop['kind'], message: string): void {
    if (job.stop || job.phase === 'ended') return;
    job.stop = { kind, message };
    this.abort(job, new HubError(kind === 'cancelled' ? 'command-cancelled' : 'deadline-exceeded', message));
  }

  /** Asks the handler to stop, because nobody waits for it any more. */
  abort(job: Job, reason: HubError): void {
    job.abort(reason);
    this.#options.reports.wake(job);
  }

  /** Tells what began in this turn of the event loop and did not end in it. */
  endTurn(): void {
    if (this.#newJobs.length === 0) return;
    const jobs = this.#newJobs;
    this.#newJobs = [];
    const { reports, clock } = this.#options;
    for (const job of jobs) {
      if (job.phase !== 'running') continue;
      reports.started(job);
      const { finishWithinMs } = job.command;
      if (finishWithinMs === 0) continue;
      const left = finishWithinMs - (clock.monotonic() - job.receivedAt);
      const message = `it had ${finishWithinMs} ms to finish`;
      job.letGoOfFinish = clock.after(Math.max(0, left), () => this.stop(job, 'timed-out', message));
    }
  }

  #notBegun(job: Job, error: unknown): void {
    const { answers, observe } = this.#options;
    tell(observe, { kind: 'journal-failed', commandId: job.commandId, error });
    const message = `the device's journal could not record the command, so it was not run: ${messageOf(error)}`;
    answers.refuse(job.commandId, job.type, 'rejected', { code: 'journal-failed', message });
    this.#leave(job);
  }

  #run(job: Job, handler: CommandHandler): void {
    job.phase = 'running';
    if (job.stop) {
      this.#endStopped(job, job.stop);
      return;
    }
    try {
      const answer = handler(job.command.payload?.value ?? new Uint8Array(), job);
      if (isPromise(answer)) {
        answer.then(
          (payload) => this.#succeed(job, payload),
          (error: unknown) => this.#fail(job, error),
        );
        this.#newJobs.push(job);
        this.#options.wantTurnEnd();
      } else this.#succeed(job, answer);
    } catch (error) {
      this.#fail(job, error);
    }
  }

  #succeed(job: Job, payload: Payload): void {
    if (job.stop) this.#endStopped(job, job.stop);
    else if (typeof payload?.type === 'string' && payload.value instanceof Uint8Array)
      this.#end(job, 'succeeded', payload, undefined);
    else this.#fail(job, new HubError('invalid-argument', `the result codec of "${job.type}" did not give bytes`));
  }

  #fail(job: Job, error: unknown): void {
    if (job.stop) {
      this.#endStopped(job, job.stop);
      return;
    }
    if (error instanceof CommandRejected) {
      this.#end(job, 'rejected', undefined, { code: error.code, message: error.message });
      return;
    }
    tell(this.#options.observe, { kind: 'handler-failed', commandId: job.commandId, type: job.type, error });
    this.#end(job, 'failed', undefined, { code: codeOf(error), message: messageOf(error) });
  }

  #endStopped(job: Job, { kind, message }: Stop): void {
    this.#end(job, kind === 'cancelled' ? 'cancelled' : 'failed', undefined, { code: kind, message });
  }

  #end(job: Job, state: TerminalState, payload: Payload | undefined, error: CommandError | undefined): void {
    if (job.phase === 'ended') return;
    const { reports, answers } = this.#options;
    if (state !== 'cancelled') reports.ending(job);
    answers.end(job.commandId, job.type, state, payload, error);
    this.#leave(job);
  }

  #leave(job: Job): void {
    job.end();
    this.#options.reports.wake(job);
    this.#running--;
    if (this.#running === 0 && this.#onIdle) {
      this.#onIdle();
      this.#onIdle = undefined;
    }
    this.#options.onEnded(job);
  }
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined | null)?.code;
  return typeof code === 'string' && code !== '' ? code : 'handler-failed';
}

function messageOf(error: unknown): string {
  if (error instanceof Error && typeof error.message === 'string') return error.message;
  return typeof error === 'string' ? error : inspect(error);
}
