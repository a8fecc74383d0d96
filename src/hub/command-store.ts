import type { Command, CommandRecord, CommandState, TerminalUpdate } from '../protocol/command.ts';

/** A queued command as it is kept. */
export interface StoredCommand extends CommandRecord {
  /** Rises with every accepted command of the store; orders a mailbox. */
  readonly position: number;
  /** Unix ms at which the hub has to look at it: end of its time to live or, once sent, of the wait for its result. */
  readonly dueAtMs: number;
  /** Journal id of the device it was (or may have been) written to; undefined: certainly never written. */
  readonly sentToJournal?: string | undefined;
}

/** What `add` has to hold to. */
export interface AddOptions {
  readonly nowMs: number;
  /** Most commands and payload bytes that one client's mailbox may hold. */
  readonly maxCommands: number;
  readonly maxBytes: number;
  /** Unix ms, becomes the command's `dueAtMs`. */
  readonly dueAtMs: number;
  /** Set when it will be written at once, to save a second round: stored as sent to this journal. */
  readonly sentToJournal?: string | undefined;
  /** With a coalesce key: also replace these commands, known not to be written, and any above `afterPosition`. */
  readonly supersede?: { readonly ids: readonly string[]; readonly afterPosition: number } | undefined;
}

export type AddOutcome =
  | { readonly kind: 'stored'; readonly stored: StoredCommand; readonly superseded: readonly StoredCommand[] }
  /** The same id, or the same idempotency key with the same content, was accepted before. */
  | { readonly kind: 'existing'; readonly stored: StoredCommand }
  /** The key or id is taken by another content, client or tenant. */
  | { readonly kind: 'conflict'; readonly message: string }
  | { readonly kind: 'full'; readonly message: string };

/**
 * Keeps queued commands: mailbox, idempotency keys, history. A promise that resolves means "on disk" (as far as the
 * adapter promises that at all); one that rejects means that nothing was changed or that it is not known.
 * Every call is atomic. Adapters group concurrent calls into one write.
 */
export interface CommandStore {
  add(command: Command, options: AddOptions): Promise<AddOutcome>;
  /** Marks commands as (about to be) written to a device with this journal. Terminal ones are left alone. */
  markSent(marks: readonly { readonly id: string; readonly dueAtMs: number }[], journal: string): Promise<void>;
  /** Notes a state that is not terminal (`delivered`, `started`). Never goes back, never touches a terminal one. */
  advance(id: string, state: CommandState, atMs: number): Promise<void>;
  /** Ends a command. The first end wins: resolves to the update that stands. */
  finish(update: TerminalUpdate): Promise<TerminalUpdate>;
  get(id: string): Promise<StoredCommand | undefined>;
  /** Commands of a client that are not terminal, by position, above `after`. */
  mailbox(tenant: string, clientId: string, after: number, limit: number): Promise<StoredCommand[]>;
  /** Commands of any client that are not terminal and whose `dueAtMs` is at or before `nowMs`, oldest first. */
  due(nowMs: number, limit: number): Promise<StoredCommand[]>;
  list(filter: CommandFilter): Promise<StoredCommand[]>;
  /** Commands that are not terminal: of one client, or of all. */
  count(tenant?: string, clientId?: string): Promise<number>;
  /** Forgets terminal commands beyond these limits; resolves to how many. */
  prune(limits: { readonly endedBeforeMs: number; readonly maxEnded: number }): Promise<number>;
  close(): Promise<void>;
}

export interface CommandFilter {
  readonly tenant: string;
  readonly clientId?: string | undefined;
  readonly pendingOnly?: boolean | undefined;
  /** Newest first, at most this many. */
  readonly limit: number;
}
