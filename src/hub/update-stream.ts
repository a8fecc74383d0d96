import { HubError } from '../errors.ts';
import { PushStream } from '../flow/push-stream.ts';
import { type CommandUpdate, isTerminalUpdate, type TerminalUpdate } from '../protocol/command.ts';

/** What a reader hears of: every step, that the command was accepted and how it ends, or the end alone. */
export type Interest = 'steps' | 'brief' | 'end';

/** Who hears of a command. */
export interface UpdateReader {
  readonly interest: Interest;
  offer(update: CommandUpdate): void;
  fail(error: unknown): void;
  /** Set by what it reads: lets go of it when the reader leaves. */
  onReturn: (() => void) | undefined;
  /** What an abort does instead, before the command is accepted. */
  onCancel: (() => void) | undefined;
}

/** A reader that waits for the end alone: one promise, and no more. */
export class EndReader<T> implements UpdateReader {
  readonly interest = 'end';
  readonly #read: (end: TerminalUpdate) => T;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  onReturn: (() => void) | undefined = undefined;
  onCancel: (() => void) | undefined = undefined;

  constructor(read: (end: TerminalUpdate) => T, resolve: (value: T) => void, reject: (error: unknown) => void) {
    this.#read = read;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  offer(end: CommandUpdate): void {
    try {
      this.#resolve(this.#read(end as TerminalUpdate));
    } catch (error) {
      this.#reject(error);
    }
  }

  fail(error: unknown): void {
    this.#reject(error);
  }
}

/** One reader of a command's updates. A slow reader loses plain progress first and its reading at last. */
export class UpdateStream extends PushStream<CommandUpdate> implements UpdateReader {
  readonly interest: Interest;
  readonly #maxUnread: number;
  #letGo: (() => void) | undefined;
  /** What an abort does instead, before the command is accepted. */
  onCancel: (() => void) | undefined;

  constructor(maxUnread: number, interest: 'steps' | 'brief' = 'steps') {
    super();
    this.#maxUnread = maxUnread;
    this.interest = interest;
  }

  /** Calls `onAbort` when `signal` is aborted, and lets go of it when the reading is over. */
  endWith(signal: AbortSignal | undefined, onAbort: () => void): void {
    if (!signal) return;
    const abort = (): void => (this.onCancel ?? onAbort)();
    signal.addEventListener('abort', abort, { once: true });
    this.#letGo = () => signal.removeEventListener('abort', abort);
    if (signal.aborted) abort();
  }

  override end(): void {
    this.#letGo?.();
    super.end();
  }

  override fail(error: unknown): void {
    this.#letGo?.();
    super.fail(error);
  }

  override return(): Promise<IteratorResult<CommandUpdate, undefined>> {
    this.#letGo?.();
    return super.return();
  }

  offer(update: CommandUpdate): void {
    if (isPlainProgress(update) && this.newest && isPlainProgress(this.newest)) this.replaceNewest(update);
    else if (this.buffered >= this.#maxUnread && !isTerminalUpdate(update))
      this.fail(
        new HubError(
          'resource-exhausted',
          `the reader of command ${update.commandId} left ${this.buffered} updates unread`,
          {
            commandId: update.commandId,
          },
        ),
      );
    else this.push(update);
    if (isTerminalUpdate(update)) this.end();
  }
}

function isPlainProgress(update: CommandUpdate): boolean {
  return update.state === 'progress' && update.progress.item === undefined;
}
