import { inspect } from 'node:util';
import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { TransitMap } from '../flow/transit-map.ts';
import { clip } from '../protocol/checks.ts';
import { encodeMessage } from '../protocol/codec.ts';
import type { CommandError, Payload, Progress, TerminalState } from '../protocol/command.ts';
import { progressToProto, stateToProto } from '../protocol/convert.ts';
import { CommandProgress, type DeviceCommand, Result, Started } from '../protocol/gen/signalbox/v1/device.ts';
import { encodeSuccess } from '../protocol/hot-frames.ts';
import { CommandRejected } from './command-rejected.ts';
import { type DeviceFact, tell } from './facts.ts';
import { type CommandHandler, isPromise } from './handlers.ts';
import { Job, type JobHost } from './job.ts';
import type { Journal } from './journal.ts';
import type { Outbox } from './outbox.ts';
import { Ready } from './ready.ts';

export interface RunnerOptions {
  readonly handlers: ReadonlyMap<string, CommandHandler>;
  readonly journal: Journal;
  readonly outbox: Outbox;
  readonly clock: Clock;
  /** Handlers that run at once. */
  readonly concurrency: number;
  /** Commands without a result that are held; further ones are rejected. */
  readonly maxHeld: number;
  /** How long commands wait for a handler of their type to be registered, from the first welcome, in ms. */
  readonly handlerGraceMs: number;
  readonly emit: (name: string, data: unknown) => Promise<void>;
  /** Asks for a call of `endTurn` once this turn of the event loop is over. */
  readonly wantTurnEnd: () => void;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/** Milliseconds between two progress reports of one command. */
const progressEveryMs = 100;

/** Runs commands: in order of arrival, so many at once, each at most once. */
export class Runner implements JobHost {
  readonly #options: RunnerOptions;
  readonly #jobs = new TransitMap<Job>();
  readonly #ready = new Ready();
  readonly #roomWaiters = new Map<Job, () => void>();
  #newJobs: Job[] = [];
  #position = 0;
  /** Jobs that hold a place: beginning or running. */
  #active = 0;
  #isHeld = true;
  #isClosing = false;
  #isPumping = false;
  #graceEndsAt: number | undefined;
  #letGoOfGrace: (() => void) | undefined;
  #onIdle: (() => void) | undefined;
  /** Largest frame that the hub takes, in bytes. */
  maxFrameBytes = 1024 * 1024;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Takes up what the journal holds from before: results to be told again, and commands that a crash has cut off. */
  restore(): void {
    const { journal } = this.#options;
    for (const entry of journal.unacknowledged()) {
      const { commandId, result, idempotent } = entry;
      if (result) this.#offerResult(commandId, result);
      else if (idempotent) this.#record(journal.retire([commandId]), commandId);
      else {
        const message = 'the device was interrupted while it ran this command; it may have had its effect';
        this.#answer(commandId, '', 'unknown', undefined, { code: 'interrupted', message }, true);
      }
    }
  }

  /** Ids whose result is still to come, or is not acknowledged. */
  inFlight(): string[] {
    const ids = new Set(this.#options.outbox.results.keys());
    for (const job of this.#jobs.values()) if (job.phase !== 'waiting') ids.add(job.commandId);
    return [...ids];
  }

  /** Starts nothing until `release`. */
  hold(): void {
    this.#isHeld = true;
  }

  release(): void {
    if (this.#isClosing) return;
    this.#isHeld = false;
    this.pump();
  }

  /** The hub has welcomed us: from the first time on, handlers are expected soon. */
  expectHandlers(): void {
    if (this.#graceEndsAt !== undefined) return;
    const { clock, handlerGraceMs } = this.#options;
    this.#graceEndsAt = clock.monotonic() + handlerGraceMs;
    this.#letGoOfGrace = clock.after(handlerGraceMs, () => this.pump());
  }

  /** Forgets commands that were not begun: the hub sends again what it still wants. */
  dropWaiting(): void {
    for (const job of this.#jobs.values()) if (job.phase === 'waiting') this.#remove(job);
  }

  /** Takes nothing more, and forgets what was not begun. */
  close(): void {
    this.#isClosing = true;
    this.#isHeld = true;
    this.#letGoOfGrace?.();
    this.dropWaiting();
  }

  /** Asks all handlers to stop, because nobody waits for them any more. */
  abort(reason: HubError): void {
    for (const job of this.#jobs.values()) {
      job.abort(reason);
      this.#roomWaiters.get(job)?.();
    }
  }

  /** Whether a handler runs. */
  get isBusy(): boolean {
    return this.#active > 0;
  }

  /** Handlers that run now. */
  get running(): number {
    return this.#active;
  }

  /** Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  receive(command: DeviceCommand): void {
    const { journal, outbox, maxHeld, clock } = this.#options;
    const { id } = command;
    if (this.#jobs.has(id) || outbox.results.has(id)) return;
    if (this.#answerAgain(id, journal)) return;
    const type = command.payload?.type ?? '';
    if (this.#jobs.size >= maxHeld) {
      const message = `the device holds ${maxHeld} commands already`;
      this.#answer(id, type, 'rejected', undefined, { code: 'resource-exhausted', message }, false);
      return;
    }
    const job = new Job(command, ++this.#position, this);
    this.#jobs.set(id, job);
    this.#ready.add(job);
    this.pump();
    if (job.phase === 'waiting' && command.startWithinMs > 0)
      job.letGoOfStart = clock.after(command.startWithinMs, () => this.#expire(job));
  }

  cancel(commandId: string, reason: string): void {
    const { journal, outbox } = this.#options;
    const job = this.#jobs.get(commandId);
    if (job && job.phase !== 'waiting') {
      this.#stop(job, 'cancelled', reason || 'cancelled');
      return;
    }
    if (!job && (outbox.results.has(commandId) || this.#answerAgain(commandId, journal))) return;
    if (job) this.#remove(job);
    // Recorded, so that the command is not run when it comes after its cancel.
    this.#record(journal.begin(commandId, { idempotent: false }), commandId);
    const error = { code: 'cancelled', message: reason || 'cancelled before it was begun' };
    this.#answer(commandId, job?.type ?? '', 'cancelled', undefined, error, true);
    this.pump();
  }

  /** Tells what began in this turn of the event loop and did not end in it. */
  endTurn(): void {
    if (this.#newJobs.length === 0) return;
    const jobs = this.#newJobs;
    this.#newJobs = [];
    for (const job of jobs) {
      if (job.phase !== 'running') continue;
      this.#announce(job);
      const { finishWithinMs } = job.command;
      if (finishWithinMs === 0) continue;
      const left = finishWithinMs - (this.monotonic() - job.receivedAt);
      const message = `it had ${finishWithinMs} ms to finish`;
      job.letGoOfFinish = this.#options.clock.after(Math.max(0, left), () => this.#stop(job, 'timed-out', message));
    }
  }

  /** There is room in the outbox again. */
  onRoom(): void {
    for (const wake of [...this.#roomWaiters.values()]) wake();
    this.pump();
  }

  /** Starts what can be started. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    const { concurrency, outbox, handlers } = this.#options;
    while (!this.#isHeld && this.#active < concurrency && !outbox.isFull) {
      const job = this.#ready.first;
      if (!job) break;
      const handler = handlers.get(job.type);
      if (!handler && this.monotonic() < (this.#graceEndsAt ?? 0)) break;
      this.#ready.shift();
      this.#start(job, handler);
    }
    this.#isPumping = false;
  }

  now(): number {
    return this.#options.clock.now();
  }

  monotonic(): number {
    return this.#options.clock.monotonic();
  }

  emit(name: string, data: unknown): Promise<void> {
    return this.#options.emit(name, data);
  }

  item(job: Job, item: Payload): Promise<void> | undefined {
    if (job.phase !== 'running') return undefined;
    this.#tellProgress(job);
    const body = progressBody(job.commandId, { item });
    if (this.#isTooLarge(body))
      throw new HubError(
        'resource-exhausted',
        `an item of ${body.length} bytes does not fit: the hub takes ${this.maxFrameBytes}`,
      );
    job.isAnnounced = true;
    this.#options.outbox.offer({ kind: 'item', subject: job.commandId, body });
    if (!this.#options.outbox.isFull || job.stop) return undefined;
    return new Promise((resolve) => {
      this.#roomWaiters.set(job, () => {
        this.#roomWaiters.delete(job);
        resolve();
      });
    });
  }

  progressed(job: Job): void {
    if (job.letGoOfProgress) return;
    const wait = job.progressAt + progressEveryMs - this.monotonic();
    if (wait <= 0 && !this.#options.outbox.isBusy) {
      this.#tellProgress(job);
      return;
    }
    job.letGoOfProgress = this.#options.clock.after(wait > 0 ? wait : progressEveryMs, () => {
      job.letGoOfProgress = undefined;
      if (job.phase === 'running' && job.progressDue) this.progressed(job);
    });
  }

  #tellProgress(job: Job): void {
    if (!job.progressDue) return;
    const body = progressBody(job.commandId, job.progressDue);
    job.progressDue = undefined;
    job.progressAt = this.monotonic();
    job.isAnnounced = true;
    this.#options.outbox.offer({ kind: 'progress', subject: job.commandId, body });
  }

  #start(job: Job, handler: CommandHandler | undefined): void {
    const { command } = job;
    const waited = this.monotonic() - job.receivedAt;
    const isLate = (limitMs: number): boolean => limitMs > 0 && waited > limitMs;
    if (isLate(command.startWithinMs) || isLate(command.finishWithinMs)) {
      this.#ready.done(job);
      this.#expire(job);
      return;
    }
    if (!handler) {
      this.#forget(job);
      const message = `the device has no handler for "${job.type}"`;
      this.#answer(job.commandId, job.type, 'rejected', undefined, { code: 'unimplemented', message }, false);
      return;
    }
    this.#active++;
    job.phase = 'beginning';
    let begun: Promise<void> | undefined;
    try {
      begun = this.#options.journal.begin(job.commandId, { idempotent: command.idempotent });
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

  #notBegun(job: Job, error: unknown): void {
    tell(this.#options.observe, { kind: 'journal-failed', commandId: job.commandId, error });
    const message = `the device's journal could not record the command, so it was not run: ${messageOf(error)}`;
    this.#end(job, 'rejected', undefined, { code: 'journal-failed', message }, false);
  }

  #run(job: Job, handler: CommandHandler): void {
    job.letGo();
    job.phase = 'running';
    if (job.stop) {
      this.#end(job, 'cancelled', undefined, { code: 'cancelled', message: job.stop.message });
      return;
    }
    this.#newJobs.push(job);
    this.#options.wantTurnEnd();
    try {
      const answer = handler(job.command.payload?.value ?? new Uint8Array(), job);
      if (isPromise(answer))
        answer.then(
          (payload) => this.#succeed(job, payload),
          (error: unknown) => this.#fail(job, error),
        );
      else this.#succeed(job, answer);
    } catch (error) {
      this.#fail(job, error);
    }
  }

  #succeed(job: Job, payload: Payload): void {
    if (job.stop) this.#endStopped(job, job.stop.kind, job.stop.message);
    else if (typeof payload?.type === 'string' && payload.value instanceof Uint8Array)
      this.#end(job, 'succeeded', payload, undefined);
    else this.#fail(job, new HubError('invalid-argument', `the result codec of "${job.type}" did not give bytes`));
  }

  #fail(job: Job, error: unknown): void {
    if (job.stop) {
      this.#endStopped(job, job.stop.kind, job.stop.message);
      return;
    }
    if (error instanceof CommandRejected) {
      this.#end(job, 'rejected', undefined, { code: error.code, message: error.message });
      return;
    }
    tell(this.#options.observe, { kind: 'handler-failed', commandId: job.commandId, type: job.type, error });
    this.#end(job, 'failed', undefined, { code: codeOf(error), message: messageOf(error) });
  }

  #endStopped(job: Job, kind: 'cancelled' | 'timed-out', message: string): void {
    this.#end(job, kind === 'cancelled' ? 'cancelled' : 'failed', undefined, { code: kind, message });
  }

  #stop(job: Job, kind: 'cancelled' | 'timed-out', message: string): void {
    if (job.stop || job.phase === 'ended') return;
    job.stop = { kind, message };
    job.abort(new HubError(kind === 'cancelled' ? 'command-cancelled' : 'deadline-exceeded', message));
    this.#roomWaiters.get(job)?.();
  }

  #expire(job: Job): void {
    if (job.phase !== 'waiting') return;
    this.#remove(job);
    const limitMs = job.command.startWithinMs || job.command.finishWithinMs;
    const message = `it was not begun within ${limitMs} ms`;
    this.#answer(job.commandId, job.type, 'expired', undefined, { code: 'expired', message }, false);
    this.pump();
  }

  /** Takes out a job that was not begun. */
  #remove(job: Job): void {
    this.#ready.remove(job);
    this.#forget(job);
  }

  #forget(job: Job): void {
    job.letGo();
    job.phase = 'ended';
    this.#ready.done(job);
    this.#jobs.delete(job.commandId);
  }

  #end(
    job: Job,
    state: TerminalState,
    payload: Payload | undefined,
    error: CommandError | undefined,
    isBegun = true,
  ): void {
    if (job.phase === 'ended') return;
    if (state !== 'cancelled' && !this.#options.outbox.isBusy) this.#tellProgress(job);
    this.#active--;
    this.#roomWaiters.get(job)?.();
    this.#forget(job);
    this.#answer(job.commandId, job.type, state, payload, error, isBegun);
    if (this.#active === 0 && this.#onIdle) {
      this.#onIdle();
      this.#onIdle = undefined;
    }
    this.pump();
  }

  #announce(job: Job): void {
    if (job.isAnnounced) return;
    job.isAnnounced = true;
    const body = encodeMessage(Started, { commandId: job.commandId });
    this.#options.outbox.offer({ kind: 'started', subject: job.commandId, body });
  }

  /** A command ends: its result is recorded if it was begun, and told. */
  #answer(
    commandId: string,
    type: string,
    state: TerminalState,
    payload: Payload | undefined,
    error: CommandError | undefined,
    isBegun: boolean,
  ): void {
    const body = resultBody(commandId, state, payload, error);
    if (payload && this.#isTooLarge(body)) {
      const message = `the result has ${body.length} bytes, the hub takes ${this.maxFrameBytes}`;
      this.#answer(commandId, type, 'failed', undefined, { code: 'result-too-large', message }, isBegun);
      return;
    }
    if (isBegun) this.#record(this.#options.journal.finish(commandId, body), commandId);
    this.#offerResult(commandId, body);
    const { observe } = this.#options;
    if (observe) tell(observe, { kind: 'command-ended', commandId, type, state, code: error?.code });
  }

  /** Answers a command that the journal knows. */
  #answerAgain(commandId: string, journal: Journal): boolean {
    const entry = journal.lookup(commandId);
    if (!entry) return false;
    if (entry.result) this.#offerResult(commandId, entry.result);
    else {
      const message = `the device has run this command before, and its result is not kept any more`;
      this.#answer(commandId, '', 'unknown', undefined, { code: 'result-forgotten', message }, false);
    }
    return true;
  }

  #offerResult(commandId: string, body: Uint8Array): void {
    this.#options.outbox.offer({ kind: 'result', subject: commandId, body });
  }

  #isTooLarge(body: Uint8Array): boolean {
    return body.length + 32 > this.maxFrameBytes;
  }

  #record(written: Promise<void> | undefined, commandId: string): void {
    written?.catch((error: unknown) => tell(this.#options.observe, { kind: 'journal-failed', commandId, error }));
  }
}

function resultBody(
  commandId: string,
  state: TerminalState,
  payload: Payload | undefined,
  error: CommandError | undefined,
): Uint8Array {
  const success = state === 'succeeded' && payload !== undefined ? encodeSuccess(commandId, payload) : undefined;
  if (success !== undefined) return success;
  return encodeMessage(Result, {
    commandId,
    state: stateToProto(state),
    payload: payload && { type: payload.type, value: payload.value },
    error: error && { code: clip(error.code), message: clip(error.message) },
  });
}

function progressBody(commandId: string, progress: Progress): Uint8Array {
  return encodeMessage(CommandProgress, { commandId, progress: progressToProto(progress) });
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined | null)?.code;
  return typeof code === 'string' && code !== '' ? code : 'handler-failed';
}

function messageOf(error: unknown): string {
  if (error instanceof Error && typeof error.message === 'string') return error.message;
  return typeof error === 'string' ? error : inspect(error);
}
