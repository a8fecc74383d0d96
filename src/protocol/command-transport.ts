import type { Command, CommandUpdate, TerminalUpdate } from './command.ts';

/** How a road is to tell of a command. */
export interface TellOptions {
  /** Asks for a cancel when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Nobody wants to know more than how the command ends, and before that at most that it was accepted: of a queued one
   * that is told in any case. A hub keeps to it; another road may tell more.
   */
  readonly brief?: boolean | undefined;
}

/**
 * The road a command takes. The hub is the in-process road; `GrpcTransport` is the RPC `SendCommandToClient`.
 * One contract suite runs on both: the same call gives the same updates everywhere.
 */
export interface CommandTransport {
  /**
   * Sends one command and tells what becomes of it. Ends after the terminal update. Aborting `signal` asks for a
   * cancel and the terminal update still comes; leaving the loop stops the watching, not the command. The iterator's
   * `return()` works at once, also while a `next()` is pending: a generator's does not.
   *
   * The first update says that the command was accepted (`queued`). Before that the iteration throws a `HubError`:
   * `invalid-argument`, `client-offline`, `mailbox-full`, `idempotency-conflict`, `resource-exhausted`,
   * `unauthenticated`, `permission-denied`, `unavailable`.
   */
  send(command: Command, options?: TellOptions): AsyncIterable<CommandUpdate>;

  /**
   * As `send`, for callers who want the end of a live command alone and never abort: a shortcut that a road may have
   * where following every update costs more than the command. It settles in the command's own time, with what `read`
   * makes of the end; where `read` throws it rejects with that.
   */
  settle?<T>(command: Command, read: (end: TerminalUpdate) => T): Promise<T>;
}
