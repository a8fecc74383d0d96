import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { keepAlive } from '../flow/keep-alive.ts';
import type { CommandCodec } from '../protocol/codec.ts';
import type { ServiceDefinition } from '../protocol/service-definition.ts';
import { Answers } from './answers.ts';
import type { DeviceEnd, DeviceState } from './device-state.ts';
import { Events } from './events.ts';
import { type DeviceFact, tell } from './facts.ts';
import {
  type CommandContext,
  type CommandHandler,
  codecHandler,
  type HandleOptions,
  type ServiceImplementation,
  serviceHandlers,
} from './handlers.ts';
import { Inbox, type InboxOptions } from './inbox.ts';
import type { Job } from './job.ts';
import type { Journal } from './journal/journal.ts';
import { Link, type LinkOptions } from './link.ts';
import { Outbox, type OutboxOptions } from './outbox.ts';
import { Reports } from './reports.ts';
import { Runner } from './runner.ts';

/** What `connectDevice` has made of its options. */
export interface DeviceParts {
  readonly link: Omit<LinkOptions, 'inbox' | 'outbox' | 'wantTurnEnd' | 'onState'>;
  readonly inbox: Pick<InboxOptions, 'concurrency' | 'maxHeld' | 'handlerGraceMs'>;
  readonly outbox: Pick<OutboxOptions, 'maxFrames' | 'maxBytes'>;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/** A program's end of the hub: takes commands, tells events, and stays connected by itself. */
export class Device {
  /**
   * Tells what happened here, into the channel `client.<id>`. Resolves when the hub has taken it over; until then it
   * is kept in memory, and sent again after a loss of the stream. Nobody has to wait for it.
   *
   * Throws `invalid-argument` for a name or data that cannot be sent. Rejects with `resource-exhausted` when the
   * buffer is full, and with `unavailable` when the device is closed before. Bound: it may be handed on as it is.
   */
  readonly emit: (name: string, data?: unknown) => Promise<void>;

  readonly #parts: DeviceParts;
  readonly #handlers = new Map<string, CommandHandler>();
  readonly #outbox: Outbox;
  readonly #answers: Answers;
  readonly #runner: Runner;
  readonly #inbox: Inbox;
  readonly #link: Link;
  readonly #listeners = new Set<(state: DeviceState) => void>();
  readonly #events: Events;
  readonly #letProcessGo: () => void;
  readonly #closed = Promise.withResolvers<DeviceEnd>();
  #willEndTurn = false;
  #closing: Promise<void> | undefined;
  #onFlushed: (() => void) | undefined;

  /** Use `connectDevice`. */
  constructor(parts: DeviceParts) {
    this.#parts = parts;
    const { journal, clock, observe } = parts;
    const wantTurnEnd = (): void => this.#wantTurnEnd();
    const outbox = new Outbox({
      ...parts.outbox,
      onResults: (commandIds) => answers.retire(commandIds),
      onRoom: () => {
        reports.onRoom();
        inbox.pump();
      },
      onEmpty: () => this.#onFlushed?.(),
    });
    const answers = new Answers({ journal, outbox, observe });
    const events = new Events({ outbox, clock, observe });
    const { emit } = events;
    const reports = new Reports({ outbox, clock, emit });
    const onEnded = (job: Job): void => inbox.ended(job);
    const runner = new Runner({ journal, answers, reports, clock, onEnded, wantTurnEnd, observe });
    const handlers = this.#handlers;
    const inbox = new Inbox({ ...parts.inbox, handlers, runner, answers, reports, outbox, clock });
    const onState = (state: DeviceState): void => this.#onState(state);
    this.#link = new Link({ ...parts.link, inbox, outbox, wantTurnEnd, onState });
    this.#outbox = outbox;
    this.#answers = answers;
    this.#events = events;
    this.#runner = runner;
    this.#inbox = inbox;
    this.emit = emit;
    this.#letProcessGo = keepAlive();
    answers.restore();
    this.#link.connect();
  }

  /** Where the device stands now. */
  get state(): DeviceState {
    return this.#link.state;
  }

  /** Resolves when the device is closed, or when the hub does not want it and trying again would not help. */
  get closed(): Promise<DeviceEnd> {
    return this.#closed.promise;
  }

  /** Calls back on every change of `state`. Returns the release. */
  onStateChange(listener: (state: DeviceState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Serves the methods of a gRPC service, as ts-proto describes it. A unary method returns its response or throws; a
   * server-streaming method returns an async iterable. What it throws fails the command with its `code` and message;
   * a `CommandRejected` says that nothing was done.
   *
   * Throws `invalid-argument` when a method is missing or already served, `unimplemented` for streamed requests.
   */
  implement<D extends ServiceDefinition>(service: D, implementation: ServiceImplementation<D>): void {
    this.#register(serviceHandlers(service, implementation));
  }

  /** Serves the commands of one codec. Throws `invalid-argument` when its type is already served. */
  handle<T, R = unknown>(
    codec: CommandCodec<T>,
    run: (value: T, context: CommandContext) => R | Promise<R>,
    options: HandleOptions<R> = {},
  ): void {
    this.#register(new Map([[codec.type, codecHandler(codec, run, options)]]));
  }

  /**
   * Takes no new commands (the hub keeps them), lets running handlers end, waits until results and events are
   * acknowledged, says goodbye and frees everything; all within `timeoutMs`, default 10,000. What is still running
   * then is aborted. While the hub is away, acknowledgements are waited for no longer than `awayMs`, default 2,000.
   * What is left behind is told as the fact `closed-early`. The journal stays open: it is its owner's. May be called
   * twice.
   */
  close({ timeoutMs = 10_000, awayMs = 2_000 }: { timeoutMs?: number; awayMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(timeoutMs, awayMs);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(timeoutMs: number, awayMs: number): Promise<void> {
    if (this.state.kind !== 'closed') {
      this.#inbox.close();
      let letGo = (): void => undefined;
      const timeout = new Promise<void>((resolve) => {
        letGo = this.#parts.clock.after(timeoutMs, resolve);
      });
      await Promise.race([this.#runner.idle().then(() => this.#flushed(awayMs)), timeout, this.closed]);
      letGo();
      const { running } = this.#runner;
      const unacknowledged = this.#outbox.size;
      if (running > 0 || unacknowledged > 0)
        tell(this.#parts.observe, { kind: 'closed-early', running, unacknowledged });
      await this.#link.leave();
    }
    await this.#answers.settled();
  }

  /** Resolves when the hub has everything, or was away for `awayMs` on end. */
  #flushed(awayMs: number): Promise<void> {
    if (this.#outbox.size === 0) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onFlushed = resolve;
    let letGo: (() => void) | undefined;
    const watch = ({ kind }: DeviceState): void => {
      if (kind === 'connected' || kind === 'closed') {
        letGo?.();
        letGo = undefined;
      } else letGo ??= this.#parts.clock.after(awayMs, resolve);
    };
    const stop = this.onStateChange(watch);
    watch(this.state);
    return promise.finally(() => {
      stop();
      letGo?.();
    });
  }

  #register(handlers: ReadonlyMap<string, CommandHandler>): void {
    for (const type of handlers.keys())
      if (this.#handlers.has(type)) throw new HubError('invalid-argument', `"${type}" has a handler already`);
    for (const [type, handler] of handlers) this.#handlers.set(type, handler);
    // Later, so that whoever registers several does so before the first command is begun.
    setImmediate(() => this.#inbox.pump());
  }

  #onState(state: DeviceState): void {
    const { observe } = this.#parts;
    tell(observe, { kind: 'state-changed', state });
    if (state.kind === 'closed') this.#events.close();
    for (const listener of [...this.#listeners]) {
      try {
        listener(state);
      } catch (error) {
        tell(observe, { kind: 'listener-failed', error });
      }
    }
    if (state.kind !== 'closed') return;
    this.#letProcessGo();
    this.#listeners.clear();
    this.#inbox.close();
    this.#inbox.abort(new HubError('unavailable', 'the device is closed'));
    this.#closed.resolve(state.end);
  }

  #wantTurnEnd(): void {
    if (this.#willEndTurn) return;
    this.#willEndTurn = true;
    setImmediate(() => {
      this.#willEndTurn = false;
      this.#runner.endTurn();
      this.#outbox.flushAck();
    });
  }
}
