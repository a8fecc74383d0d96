import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { Command, CommandState, CommandUpdate, Payload } from '../protocol/command.ts';
import { isTerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { abortedBeforeSend, follow, letGo, lostSight } from './follow.ts';
import { errorOf, isDelivered } from './outcome.ts';

/** What `send` tells of a command. */
export interface SendReceipt {
  /** Of the command that was accepted: with an idempotency key perhaps an older one's. */
  readonly commandId: string;
  /** Live commands: `delivered` or beyond. Queued commands: what is known once it is stored. */
  readonly state: CommandState;
}

/** A command that ended well. */
export interface SettledCommand {
  readonly commandId: string;
  readonly result: Payload;
}

/** A command on its way, and what it needs there. */
export interface Call {
  readonly road: CommandTransport;
  readonly command: Command;
  /** As asked for by the caller: how long to wait. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly clock: Clock;
}

// The hub ends a live command in time by its own clock, and its word is worth more than ours. Only a road that
// says nothing at all is cut off, this much later.
const hubGraceMs = 2000;

/** Resolves once the device has the command or, for queued ones, once it is stored. Throws if it ended before that. */
export async function deliver(call: Call): Promise<SendReceipt> {
  const brief = call.command.whenOffline === 'queue';
  const isEnough = brief ? isAnything : isDelivered;
  const update = await follow({ ...call, timeoutMs: patience(call), brief, isEnough });
  if (!isEnough(update) && isTerminalUpdate(update) && update.state !== 'succeeded') throw errorOf(update);
  return { commandId: update.commandId, state: update.state };
}

/** Resolves to what `read` makes of the result; rejects with the `HubError` that says how else it ended. */
export function settle(call: Call): Promise<SettledCommand>;
export function settle<T>(call: Call, read: (settled: SettledCommand) => T): Promise<T>;
export function settle(call: Call, read: (settled: SettledCommand) => unknown = asItIs): Promise<unknown> {
  const { road, command, signal } = call;
  // A road with a shortcut keeps the time of a live command by itself.
  // One promise for the caller, and no other: each more costs a command as much as its frame does.
  if (road.settle && signal === undefined && command.whenOffline === 'fail')
    return road.settle(command, (end) => read(resultOf(end)));
  // What an abort means for a live command depends on whether the hub has accepted it: that is to be told then.
  const brief = signal === undefined || command.whenOffline === 'queue';
  return follow({ ...call, timeoutMs: patience(call), brief, isEnough: isTerminalUpdate }).then((update) =>
    read(resultOf(update)),
  );
}

function resultOf(update: CommandUpdate): SettledCommand {
  if (update.state === 'succeeded') return update;
  throw isTerminalUpdate(update) ? errorOf(update) : new HubError('internal', `${update.state} is no end`);
}

/**
 * Every update, up to the terminal one, which is told and not thrown. The command is sent when the iteration begins.
 * Leaving the loop stops the watching, not the command. A live command's road that says nothing is cut off.
 */
export function updatesOf(call: Call): AsyncIterable<CommandUpdate> {
  return { [Symbol.asyncIterator]: () => new UpdateIterator(call) };
}

const isAnything = (): boolean => true;
const asItIs = (settled: SettledCommand): SettledCommand => settled;

function patience({ command, timeoutMs }: Call): number {
  return command.whenOffline === 'queue' ? timeoutMs : command.waitForConnectMs + timeoutMs + hubGraceMs;
}

class UpdateIterator implements AsyncIterator<CommandUpdate> {
  readonly #call: Call;
  #iterator: AsyncIterator<CommandUpdate> | undefined;
  #overdue: Promise<never> | undefined;
  #stopTimer: (() => void) | undefined;
  #commandId: string | undefined;
  #isEnded = false;

  constructor(call: Call) {
    this.#call = call;
  }

  async next(): Promise<IteratorResult<CommandUpdate>> {
    if (this.#isEnded) return { done: true, value: undefined };
    try {
      this.#iterator ??= this.#begin();
      const pending = this.#iterator.next();
      const step = await (this.#overdue === undefined ? pending : Promise.race([pending, this.#overdue]));
      if (step.done) {
        // After the end, or left by return() in the meantime; else the road has lost the command.
        if (this.#isEnded) return step;
        throw new HubError('unavailable', 'the road ended before the command did');
      }
      this.#commandId = step.value.commandId;
      if (isTerminalUpdate(step.value)) this.#end();
      return step;
    } catch (thrown) {
      this.#end();
      const error = toHubError(thrown);
      const isOurs = this.#commandId === undefined || error.commandId !== undefined;
      throw isOurs ? error : lostSight(this.#call.command, this.#commandId!, error);
    }
  }

  async return(): Promise<IteratorResult<CommandUpdate>> {
    this.#end();
    return { done: true, value: undefined };
  }

  #begin(): AsyncIterator<CommandUpdate> {
    const { road, command, signal, clock } = this.#call;
    if (signal?.aborted) throw abortedBeforeSend(command);
    const iterator = road.send(command, signal && { signal })[Symbol.asyncIterator]();
    if (command.whenOffline === 'fail') {
      const limitMs = patience(this.#call);
      this.#overdue = new Promise((_, reject) => {
        this.#stopTimer = clock.after(limitMs, () => {
          const text = `no end of command ${command.id} to client ${command.clientId} within ${limitMs} ms; it may have been run`;
          reject(new HubError('deadline-exceeded', text, { commandId: command.id }));
        });
      });
      this.#overdue.catch(() => undefined); // between two calls of next() nobody listens; the next one will
    }
    return iterator;
  }

  #end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#stopTimer?.();
    letGo(this.#iterator);
  }
}
