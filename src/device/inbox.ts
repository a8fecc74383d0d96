import type { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { TransitMap } from '../flow/transit-map.ts';
import type { DeviceCommand } from '../protocol/gen/signalbox/v1/device.ts';
import type { Answers } from './answers.ts';
import type { CommandHandler } from './handlers.ts';
import { Job, type JobHost } from './job.ts';
import type { Outbox } from './outbox.ts';
import { Ready } from './ready.ts';
import type { Runner } from './runner.ts';

export interface InboxOptions {
  readonly handlers: ReadonlyMap<string, CommandHandler>;
  readonly runner: Runner;
  readonly answers: Answers;
  readonly reports: JobHost;
  readonly outbox: Outbox;
  readonly clock: Clock;
  /** Handlers that run at once. */
  readonly concurrency: number;
  /** Commands without a result that are held; further ones are rejected. */
  readonly maxHeld: number;
  /** How long commands wait for a handler of their type to be registered, from the first welcome, in ms. */
  readonly handlerGraceMs: number;
}

/** Commands that came and have not ended: each is taken once, and started in order of arrival, so many at once. */
export class Inbox {
  readonly #options: InboxOptions;
  readonly #jobs = new TransitMap<Job>();
  readonly #ready = new Ready();
  #position = 0;
  #isHeld = true;
  #isClosing = false;
  #isPumping = false;
  #graceEndsAt: number | undefined;
  #letGoOfGrace: (() => void) | undefined;

  constructor(options: InboxOptions) {
    this.#options = options;
  }

  /** Ids whose result is still to come, or is not acknowledged. */
  inFlight(): string[] {
    const ids = new Set(this.#options.outbox.results.keys());
    for (const job of this.#jobs.values()) if (job.phase !== 'waiting') ids.add(job.commandId);
    return [...ids];
  }

  /** False once it is closed: the hub keeps what it sends from then on. */
  get takesCommands(): boolean {
    return !this.#isClosing;
  }

  receive(command: DeviceCommand): void {
    const { answers, reports, maxHeld, clock } = this.#options;
    const { id } = command;
    if (this.#jobs.has(id) || answers.repeat(id)) return;
    if (this.#jobs.size >= maxHeld) {
      const message = `the device holds ${maxHeld} commands already`;
      answers.refuse(id, command.payload?.type ?? '', 'rejected', { code: 'resource-exhausted', message });
      return;
    }
    const job = new Job(command, ++this.#position, reports);
    this.#jobs.set(id, job);
    this.#ready.add(job);
    this.pump();
    if (job.phase === 'waiting' && command.startWithinMs > 0)
      job.letGoOfStart = clock.after(command.startWithinMs, () => {
        this.#expire(job);
        this.pump();
      });
  }

  cancel(commandId: string, reason: string): void {
    const { runner, answers } = this.#options;
    const job = this.#jobs.get(commandId);
    if (job && job.phase !== 'waiting') {
      runner.stop(job, 'cancelled', reason || 'cancelled');
      return;
    }
    if (!job && answers.repeat(commandId)) return;
    if (job) this.#forget(job);
    const message = reason || 'cancelled before it was begun';
    answers.forestall(commandId, job?.type ?? '', { code: 'cancelled', message });
    this.pump();
  }

  /** A command that was started has ended. */
  ended(job: Job): void {
    this.#ready.done(job);
    this.#jobs.delete(job.commandId);
    this.pump();
  }

  /** Starts what can be started. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    const { runner, concurrency, outbox, handlers, clock } = this.#options;
    while (!this.#isHeld && runner.running < concurrency && !outbox.isFull) {
      const job = this.#ready.first;
      if (!job) break;
      const handler = handlers.get(job.type);
      if (!handler && clock.monotonic() < (this.#graceEndsAt ?? 0)) break;
      if (this.#isLate(job)) this.#expire(job);
      else if (!handler) this.#refuse(job);
      else {
        this.#ready.shift();
        runner.start(job, handler);
      }
    }
    this.#isPumping = false;
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
    for (const job of this.#jobs.values()) if (job.phase === 'waiting') this.#forget(job);
  }

  /** Takes and starts nothing more, and forgets what was not begun. */
  close(): void {
    this.#isClosing = true;
    this.#isHeld = true;
    this.#letGoOfGrace?.();
    this.dropWaiting();
  }

  /** Asks all handlers to stop, because nobody waits for them any more. */
  abort(reason: HubError): void {
    for (const job of this.#jobs.values()) this.#options.runner.abort(job, reason);
  }

  #isLate({ command, receivedAt }: Job): boolean {
    const { startWithinMs, finishWithinMs } = command;
    if (startWithinMs === 0 && finishWithinMs === 0) return false;
    const waited = this.#options.clock.monotonic() - receivedAt;
    return (startWithinMs > 0 && waited > startWithinMs) || (finishWithinMs > 0 && waited > finishWithinMs);
  }

  #expire(job: Job): void {
    this.#forget(job);
    const limitMs = job.command.startWithinMs || job.command.finishWithinMs;
    const message = `it was not begun within ${limitMs} ms`;
    this.#options.answers.refuse(job.commandId, job.type, 'expired', { code: 'expired', message });
  }

  #refuse(job: Job): void {
    this.#forget(job);
    const message = `the device has no handler for "${job.type}"`;
    this.#options.answers.refuse(job.commandId, job.type, 'rejected', { code: 'unimplemented', message });
  }

  /** Lets go of a job that was not begun. */
  #forget(job: Job): void {
    job.end();
    this.#ready.remove(job);
    this.#jobs.delete(job.commandId);
  }
}
