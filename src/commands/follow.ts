import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { Alarm, TimingWheel } from '../flow/timing-wheel.ts';
import type { Command, CommandUpdate } from '../protocol/command.ts';
import { isTerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';

/** How far to follow a command, and for how long. */
export interface FollowOptions {
  readonly road: CommandTransport;
  readonly command: Command;
  readonly clock: Clock;
  /** Give up after this many milliseconds. */
  readonly timeoutMs: number;
  /** Asks for a cancel. */
  readonly signal: AbortSignal | undefined;
  /** Nothing between acceptance and end is waited for. */
  readonly brief: boolean;
  /** Says that this update is the one that is waited for. */
  readonly isEnough: (update: CommandUpdate) => boolean;
}

/** How long the terminal update may take to come after a cancel was asked for. */
const cancelGraceMs = 5000;

/**
 * Sends a command and resolves to the first update that is enough, or to the terminal one. Always settles: with a
 * `HubError` when the time is over, when the road breaks, or when a cancel is not answered within 5 s.
 * Frees its timer, its listener and its iterator in every case.
 */
export function follow(options: FollowOptions): Promise<CommandUpdate> {
  return new Promise((resolve, reject) => new Following(options, resolve, reject).start());
}

// A class and not an async function with a race: one promise for the caller, no more per update than the iterator
// itself makes, and its own alarm in a wheel that all callers share.
class Following extends Alarm {
  readonly #options: FollowOptions;
  readonly #resolve: (update: CommandUpdate) => void;
  readonly #reject: (error: HubError) => void;
  #iterator: AsyncIterator<CommandUpdate> | undefined;
  readonly #wheel: TimingWheel;
  #isAborted = false;
  #commandId: string;
  #wasAccepted = false;
  #isSettled = false;

  constructor(options: FollowOptions, resolve: (update: CommandUpdate) => void, reject: (error: HubError) => void) {
    super();
    this.#options = options;
    this.#wheel = wheelOf(options.clock);
    this.#resolve = resolve;
    this.#reject = reject;
    this.#commandId = options.command.id;
  }

  start(): void {
    const { road, command, timeoutMs, signal, brief } = this.#options;
    if (signal?.aborted) {
      this.#fail(abortedBeforeSend(command));
      return;
    }
    try {
      this.#iterator = road.send(command, { signal, brief })[Symbol.asyncIterator]();
    } catch (error) {
      this.#fail(toHubError(error));
      return;
    }
    this.#wheel.set(this, timeoutMs);
    signal?.addEventListener('abort', this.#onAbort);
    this.#pull();
  }

  override onAlarm(): void {
    const { command, timeoutMs } = this.#options;
    const commandId = this.#commandId;
    const which = `command ${commandId} to client ${command.clientId}`;
    const isKept = command.whenOffline === 'queue' && this.#wasAccepted;
    this.#fail(
      this.#isAborted
        ? new HubError('outcome-unknown', `a cancel of ${which} was asked for and not answered`, { commandId })
        : new HubError('deadline-exceeded', `no answer to ${which} within ${timeoutMs} ms; ${outlook(isKept)}`, {
            commandId,
          }),
    );
  }

  #pull(): void {
    // An iterator written by hand may throw instead of rejecting.
    try {
      this.#iterator?.next().then(this.#onStep, this.#onBroken);
    } catch (error) {
      this.#onBroken(error);
    }
  }

  readonly #onStep = (step: IteratorResult<CommandUpdate>): void => {
    if (this.#isSettled) return;
    if (step.done) {
      this.#onBroken(new HubError('unavailable', 'the road ended before the command did'));
      return;
    }
    const update = step.value;
    this.#wasAccepted = true;
    // With an idempotency key the command that was accepted may be an older one.
    this.#commandId = update.commandId;
    if (this.#options.isEnough(update) || isTerminalUpdate(update)) {
      this.#settle();
      this.#resolve(update);
    } else this.#pull();
  };

  readonly #onBroken = (thrown: unknown): void => {
    if (this.#isSettled) return;
    const error = toHubError(thrown);
    this.#fail(this.#wasAccepted ? lostSight(this.#options.command, this.#commandId, error) : error);
  };

  readonly #onAbort = (): void => {
    // The road asks for the cancel; the truth about the command is still worth a moment.
    this.#isAborted = true;
    this.#wheel.set(this, Math.min(cancelGraceMs, this.#options.timeoutMs));
  };

  #fail(error: HubError): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#isSettled = true;
    this.#wheel.clear(this);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    letGo(this.#iterator);
  }
}

// Keyed by clock, so that a test's own clock has its own wheel. A wheel without alarms runs nothing.
const wheels = new WeakMap<Clock, TimingWheel>();

function wheelOf(clock: Clock): TimingWheel {
  let wheel = wheels.get(clock);
  if (wheel === undefined) {
    wheel = new TimingWheel({ clock });
    wheels.set(clock, wheel);
  }
  return wheel;
}

/** Leaves an iterator without waiting for it: a generator's `return()` waits for what it is doing. */
export function letGo(iterator: AsyncIterator<unknown> | undefined): void {
  try {
    // What goes wrong in an iterator that nobody listens to any more has no one to be told to.
    iterator?.return?.()?.then(undefined, () => undefined);
  } catch {
    // The same, from one that throws at once.
  }
}

export function abortedBeforeSend(command: Command): HubError {
  return new HubError(
    'command-cancelled',
    `command ${command.id} to client ${command.clientId} was not sent: aborted`,
    {
      commandId: command.id,
    },
  );
}

/** An accepted command whose road broke: saying `unavailable` would invite callers to send it again. */
export function lostSight(command: Command, commandId: string, cause: HubError): HubError {
  const isQueued = command.whenOffline === 'queue';
  return new HubError(
    isQueued ? cause.code : 'outcome-unknown',
    `lost sight of command ${commandId} to client ${command.clientId}; ${outlook(isQueued)}: ${cause.message}`,
    { cause, commandId },
  );
}

function outlook(isKept: boolean): string {
  return isKept ? 'it is kept and lives on' : 'it may have been run';
}
