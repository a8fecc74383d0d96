import { status } from '@grpc/grpc-js';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { keepAlive } from '../flow/keep-alive.ts';
import { PushStream } from '../flow/push-stream.ts';
import { type Command, type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import { FreshUpdates } from '../protocol/fresh-updates.ts';
import type { CallEnd, CallerWire, OpenCall } from './caller-wire.ts';
import {
  cancelPath,
  cancelRequest,
  sendPath,
  sendRequest,
  updateIn,
  watchPath,
  watchRequest,
} from './command-calls.ts';
import { errorOfStatus, isFromHub } from './status.ts';

/** What all commands of one transport share. */
export interface RemoteRoad {
  readonly address: string;
  readonly wire: CallerWire;
  /** Undefined: none. */
  readonly token: () => string | undefined | Promise<string>;
  readonly clock: Clock;
  readonly random: () => number;
  /** The commands that are watched now. */
  readonly running: Set<RemoteCommand>;
}

/** Time beyond a command's own for its last update to come, in ms. */
const graceMs = 5_000;
/** How long the terminal update may take after a cancel was asked for, in ms. */
const cancelWaitMs = 10_000;
/** Updates that wait to be read before the hub is asked to wait. */
const maxBuffered = 64;

/**
 * One command at a hub in another process, as its caller sees it: an iterator of updates that survives the loss of
 * the connection, and always ends.
 */
export class RemoteCommand implements AsyncIterator<CommandUpdate> {
  readonly #road: RemoteRoad;
  readonly #command: Command;
  readonly #signal: AbortSignal | undefined;
  readonly #request: Buffer;
  readonly #updates = new PushStream<CommandUpdate>();
  readonly #endsAt: number;
  /** Differs from the command's own where an idempotency key found an older one. */
  #commandId: string;
  #call: OpenCall | undefined;
  /** Between two attempts nothing else would keep the process from ending. */
  #letGoOfProcess: (() => void) | undefined;
  #isPaused = false;
  /** The hub has told at least one update. */
  #wasAccepted = false;
  /** The request was handed to a connection at least once: the hub may have it. */
  #mayHaveLeft = false;
  /** What was told once is not told again after the connection came back. */
  readonly #fresh: FreshUpdates;
  #attempts = 0;
  /** Hubs that could not be reached before the command had left. */
  #refusals = 0;
  /** A cancel came before the hub had accepted the command, so it was taken back. */
  #isWithdrawn = false;
  #isOver = false;
  #letGo = new Map<'end' | 'retry' | 'cancel', () => void>();

  /** `isBrief`: how it ends, and as little as can be before that. */
  constructor(road: RemoteRoad, command: Command, signal: AbortSignal | undefined, isBrief = false) {
    this.#road = road;
    this.#command = command;
    this.#signal = signal;
    this.#commandId = command.id;
    this.#request = sendRequest(command, isBrief);
    this.#fresh = new FreshUpdates(isBrief);
    const lifeMs = lifeOf(command);
    this.#endsAt = road.clock.monotonic() + lifeMs;
    this.#updates.onReturn = () => this.#finish();
    road.running.add(this);
    if (signal?.aborted) {
      this.fail(cancelledBeforeSend(command));
      return;
    }
    signal?.addEventListener('abort', this.#onAbort);
    if (Number.isFinite(lifeMs)) this.#after('end', lifeMs, () => this.fail(this.#lost('its time is over')));
    this.#open('send');
  }

  next(): Promise<IteratorResult<CommandUpdate, undefined>> {
    const next = this.#updates.next();
    if (this.#isPaused && this.#updates.buffered < maxBuffered / 2) {
      this.#isPaused = false;
      this.#call?.resume();
    }
    return next;
  }

  return(): Promise<IteratorResult<CommandUpdate, undefined>> {
    return this.#updates.return();
  }

  fail(error: HubError): void {
    if (this.#isOver) return;
    this.#finish();
    this.#updates.fail(error);
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#road.running.delete(this);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    for (const letGo of this.#letGo.values()) letGo();
    this.#letGo.clear();
    this.#call?.leave();
    this.#call = undefined;
  }

  /** Opens the call that tells the updates: the command itself, or only the watching of it. */
  #open(how: 'send' | 'watch'): void {
    this.#withToken((token) => this.#start(how, token));
  }

  #withToken(run: (token: string | undefined) => void): void {
    try {
      const token = this.#road.token();
      if (token instanceof Promise) token.then(run).catch((thrown: unknown) => this.fail(toHubError(thrown)));
      else run(token);
    } catch (thrown) {
      this.fail(toHubError(thrown));
    }
  }

  #start(how: 'send' | 'watch', token: string | undefined): void {
    if (this.#isOver) return;
    this.#letGoOfProcess?.();
    this.#letGoOfProcess = undefined;
    this.#fresh.again();
    const { clientId } = this.#command;
    const [path, request] =
      how === 'send' ? [sendPath, this.#request] : [watchPath, watchRequest({ commandId: this.#commandId, clientId })];
    const call = this.#road.wire.call(path, request, token, {
      onMessage: (bytes) => this.#onMessage(bytes),
      onEnd: (end) => {
        this.#call = undefined;
        if (!this.#isOver) this.#onEnd(how, end, call.hub);
      },
    });
    this.#call = call;
  }

  #onMessage(bytes: Buffer): void {
    let update: CommandUpdate;
    try {
      update = updateIn(bytes);
    } catch (thrown) {
      const error = toHubError(thrown);
      this.fail(this.#lost(`the hub tells what is not understood here: ${error.message}`, error));
      return;
    }
    this.#onUpdate(update);
  }

  #onUpdate(update: CommandUpdate): void {
    if (this.#isOver) return;
    this.#wasAccepted = true;
    this.#attempts = 0;
    this.#commandId = update.commandId;
    if (!this.#fresh.isFresh(update)) return;
    this.#updates.push(update);
    if (isTerminalUpdate(update)) {
      this.#finish();
      this.#updates.end();
    } else if (this.#updates.buffered >= maxBuffered && !this.#isPaused) {
      this.#isPaused = true;
      this.#call?.pause();
    }
  }

  #onEnd(how: 'send' | 'watch', end: CallEnd, hub: number): void {
    const error = errorOfStatus({ ...end, details: end.details || `the hub at ${this.#road.address} ended the call` });
    const isOurs = isFromHub(end);
    if (isOurs && how === 'watch' && error.code === 'not-found') {
      this.#onForgotten();
      return;
    }
    // Before anything was accepted, a hub that says "unavailable" has refused the command.
    const isRefused = isOurs && how === 'send' && !this.#wasAccepted;
    if (isBreak(end.code, isOurs, error) && !isRefused) this.#onLost(how, end.mayHaveArrived, hub, error);
    else this.fail(error);
  }

  /** The connection is gone. The command may live on, so it is looked for until its time is over. */
  #onLost(how: 'send' | 'watch', wasHandedOver: boolean, hub: number, cause: HubError): void {
    if (this.#isOver) return;
    if (how === 'send' && wasHandedOver) this.#mayHaveLeft = true;
    const { address, clock, random, wire } = this.#road;
    wire.moveOn(hub);
    if (!this.#wasAccepted && !this.#mayHaveLeft) {
      if (++this.#refusals < wire.hubs) {
        setImmediate(() => this.#open('send'));
        return;
      }
      const message = `cannot reach the hub at ${address}: ${cause.message}`;
      const error = new HubError('unavailable', message, { cause, commandId: this.#command.id });
      // grpc-js answers without a turn of the event loop while there is no connection: whoever tries again at once
      // would keep it from ever connecting.
      setImmediate(() => this.fail(error));
      return;
    }
    const leftMs = this.#endsAt - clock.monotonic();
    if (leftMs <= 0) {
      this.fail(this.#lost(cause.message, cause));
      return;
    }
    const waitMs = Math.max(
      random() * Math.min(5_000, 100 * 2 ** Math.min(this.#attempts, 10)),
      cause.retryAfterMs ?? 0,
    );
    this.#attempts++;
    this.#letGoOfProcess ??= keepAlive();
    this.#after('retry', Math.min(waitMs, leftMs), () => this.#open('watch'));
  }

  /** The hub does not know the command: it was restarted, or never got it. */
  #onForgotten(): void {
    // The same id is the same command, so a queued one can be sent again. A live one could run twice.
    const { whenOffline, idempotent } = this.#command;
    if ((whenOffline === 'queue' || idempotent) && !this.#signal?.aborted) this.#open('send');
    else this.fail(this.#lost('the hub does not know it any more'));
  }

  #lost(why: string, cause?: HubError): HubError {
    const { id, clientId, whenOffline } = this.#command;
    const options = { cause, commandId: this.#commandId };
    const what = `command ${id} to client ${clientId} by ${this.#road.address}: ${why}`;
    if (whenOffline === 'queue') return new HubError('unavailable', `lost sight of queued ${what}`, options);
    return new HubError('outcome-unknown', `lost sight of ${what}; it may have been run`, options);
  }

  readonly #onAbort = (): void => {
    const isAtHome = this.#call === undefined || !this.#call.mayHaveArrived;
    if (!this.#wasAccepted && !this.#mayHaveLeft && isAtHome) {
      this.fail(cancelledBeforeSend(this.#command));
      return;
    }
    this.#after('end', cancelWaitMs, () =>
      this.fail(this.#lost(`a cancel was asked for and nothing came within ${cancelWaitMs} ms`)),
    );
    this.#cancel();
  };

  /** Asks for a cancel until the hub has heard it. What comes of it is told by the updates. */
  #cancel(): void {
    const request = { commandId: this.#commandId, reason: 'cancelled by its caller', clientId: this.#command.clientId };
    this.#withToken((token) => {
      if (this.#isOver) return;
      const call = this.#road.wire.call(cancelPath, cancelRequest(request), token, {
        onMessage: () => undefined,
        onEnd: (end) => {
          this.#release('cancel');
          if (!this.#isOver) this.#onCancelHeard(end);
        },
      });
      this.#after('cancel', cancelWaitMs, () => {
        call.leave();
        this.#cancelAgain();
      });
    });
  }

  #onCancelHeard(end: CallEnd): void {
    if (end.code === status.OK) {
      // It was accepted in the moment in which it was withdrawn: how it ends is told by watching it.
      if (this.#isWithdrawn && this.#call === undefined) this.#open('watch');
    } else if (end.code === status.NOT_FOUND) this.#onNothingToCancel();
    else if (end.code === status.UNAVAILABLE) this.#cancelAgain();
    else this.fail(errorOfStatus(end));
  }

  /** The hub has not accepted the command: it waits for its client, is being stored, or was overtaken by the cancel. */
  #onNothingToCancel(): void {
    if (this.#wasAccepted || this.#command.whenOffline === 'queue') this.#cancelAgain();
    // A hub that had it may be gone, and this one never had it.
    else if (this.#mayHaveLeft) this.#onForgotten();
    else if (this.#isWithdrawn) this.fail(cancelledBeforeSend(this.#command));
    else {
      // Leaving the call ends the waiting for a client. Whether that was in time, a second cancel tells: it comes
      // after the leaving, on the same connection.
      this.#isWithdrawn = true;
      this.#dropCall();
      this.#cancel();
    }
  }

  #cancelAgain(): void {
    this.#after('cancel', 100 + this.#road.random() * 200, () => this.#cancel());
  }

  #dropCall(): void {
    const call = this.#call;
    this.#call = undefined;
    call?.cancel();
  }

  #after(name: 'end' | 'retry' | 'cancel', ms: number, run: () => void): void {
    this.#release(name);
    this.#letGo.set(name, this.#road.clock.after(ms, run));
  }

  #release(name: 'end' | 'retry' | 'cancel'): void {
    this.#letGo.get(name)?.();
    this.#letGo.delete(name);
  }
}

/** How long a command can live, by the caller's own clock, with some time for its last update. 0 is the hub's default. */
function lifeOf({ whenOffline, timeoutMs, waitForConnectMs, ttlMs }: Command): number {
  if (whenOffline === 'fail') return (timeoutMs || 30_000) + waitForConnectMs + graceMs;
  return timeoutMs === 0 ? Number.POSITIVE_INFINITY : (ttlMs || 24 * 3_600_000) + timeoutMs + graceMs;
}

function cancelledBeforeSend({ id, clientId }: Command): HubError {
  return new HubError('command-cancelled', `command ${id} to client ${clientId} was not sent: aborted`, {
    commandId: id,
  });
}

/** Whether the end of a call says something of the connection, and not of the command. */
function isBreak(code: number, isOurs: boolean, error: HubError): boolean {
  if (isOurs) return error.code === 'unavailable';
  // OK without a terminal update; the others are how the wires tell of a reset, a GOAWAY or a dead connection.
  const breaks: number[] = [status.OK, status.CANCELLED, status.UNKNOWN, status.INTERNAL, status.UNAVAILABLE];
  return breaks.includes(code);
}
