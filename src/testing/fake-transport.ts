import { PushStream } from '../flow/push-stream.ts';
import type { Command, CommandError, CommandUpdate, Payload, Progress, TerminalState } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';

/** One command that a fake transport was given, and the pen that writes what becomes of it. */
export class FakeCommand {
  readonly command: Command;
  /** Whether the caller aborted its signal: a cancel was asked for. */
  isCancelled = false;
  /** Resolves when that happens. */
  readonly whenCancelled: Promise<void>;
  /** Whether the caller stopped reading before the end. */
  hasLeft = false;
  /** @internal What the caller reads. */
  readonly updates = new PushStream<CommandUpdate>();
  readonly #now: () => number;

  constructor(command: Command, signal: AbortSignal | undefined, now: () => number) {
    this.command = command;
    this.#now = now;
    this.updates.onReturn = () => {
      this.hasLeft = true;
    };
    const { promise, resolve } = Promise.withResolvers<void>();
    this.whenCancelled = promise;
    const cancel = (): void => {
      this.isCancelled = true;
      resolve();
    };
    if (signal?.aborted) cancel();
    else signal?.addEventListener('abort', cancel, { once: true });
  }

  /** Tells states in this order. */
  tell(...states: readonly ('queued' | 'sent' | 'delivered' | 'started')[]): this {
    for (const state of states) this.updates.push({ ...this.#step(), state });
    return this;
  }

  progress(progress: Progress): this {
    this.updates.push({ ...this.#step(), state: 'progress', progress });
    return this;
  }

  succeed(result: Payload = { type: 'test.Done', value: new Uint8Array(0) }): void {
    this.updates.push({ ...this.#step(), state: 'succeeded', result });
    this.updates.end();
  }

  /** Ends the command otherwise. */
  end(state: Exclude<TerminalState, 'succeeded'>, error: Partial<CommandError> = {}): void {
    const { code = state, message = 'as the test says' } = error;
    this.updates.push({ ...this.#step(), state, error: { code, message } });
    this.updates.end();
  }

  /** The road itself breaks: the caller's reading throws `error`. */
  fail(error: Error): void {
    this.updates.fail(error);
  }

  #step() {
    return { commandId: this.command.id, clientId: this.command.clientId, atMs: this.#now() };
  }
}

/** A `CommandTransport` whose far end is the test. */
export interface FakeTransport extends CommandTransport {
  /** All commands that were sent, oldest first. */
  readonly sent: readonly FakeCommand[];
}

/**
 * A road for tests of callers: hand it to a client as its `transport`. `answer` is called with each command and writes
 * what becomes of it, at once or later; by default every command succeeds with an empty payload.
 *
 * ```ts
 * const transport = fakeTransport((sent) => sent.tell('queued', 'delivered').end('failed', { code: 'too-hot' }));
 * ```
 */
export function fakeTransport(
  answer: (sent: FakeCommand) => void = (sent) => sent.tell('queued', 'sent', 'delivered').succeed(),
  { now = () => 0 }: { now?: () => number } = {},
): FakeTransport {
  const sent: FakeCommand[] = [];
  return {
    sent,
    send(command, { signal } = {}) {
      return {
        [Symbol.asyncIterator]() {
          const one = new FakeCommand(command, signal, now);
          sent.push(one);
          answer(one);
          return one.updates;
        },
      };
    },
  };
}
