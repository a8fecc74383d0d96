import { HubError } from '../errors.ts';
import type { EventLog, StepChannel, StepSource } from '../events/event-log.ts';
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

/** Whose a command is. */
export interface CommandOwner {
  readonly tenant: string;
  readonly clientId: string;
}

/** One hub's hold on a client, where several hubs share a store: a process, and the epoch of its claim. */
export interface Hold {
  readonly instance: string;
  readonly epoch: number;
}

/** What a write to a known command says about itself. All of it may be left out. */
export interface WriteOptions {
  /** Whose commands these are. Saves a store that is spread out the search for them. */
  readonly owner?: CommandOwner | undefined;
  /** Write only while this is the hold on the client, or nobody holds it; rejects with `FencedError` else. Default: in any case. */
  readonly hold?: Hold | 'nobody' | undefined;
}

/** What `add` has to hold to. */
export interface AddOptions {
  /** Take it only while this is the hold on its client, or only while nobody holds it. Default: in any case. */
  readonly hold?: Hold | 'nobody' | undefined;
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
  | { readonly kind: 'full'; readonly message: string }
  /** The client is not held as `hold` says. Nothing was looked at. `holder` undefined: nobody holds it. */
  | { readonly kind: 'wrong-node'; readonly holder: Hold | undefined };

/** A write came from a hub that does not hold the client (any more); nothing was changed. */
export class FencedError extends HubError {
  /** Who holds the client now; undefined: nobody. */
  readonly holder: Hold | undefined;

  constructor({ clientId }: CommandOwner, hold: Hold | 'nobody', holder: Hold | undefined) {
    const was = hold === 'nobody' ? 'nobody' : `${hold.instance} in epoch ${hold.epoch}`;
    const now = holder ? `${holder.instance} in epoch ${holder.epoch}` : 'nobody';
    super('unavailable', `client ${clientId} is not held by ${was} any more, but by ${now}`, {
      retryAfterMs: 100,
    });
    this.holder = holder;
  }
}

/**
 * Keeps queued commands: mailbox, idempotency keys, history. A promise that resolves means "on disk" (as far as the
 * adapter promises that at all); one that rejects means that nothing was changed or that it is not known.
 * Every call is atomic, and may be repeated after a lost answer. Adapters group concurrent calls into one write.
 * A store of one process (SQLite) has no directory to ask, and ignores every `hold`.
 */
export interface CommandStore {
  add(command: Command, options: AddOptions): Promise<AddOutcome>;
  /** Marks commands of one client as (about to be) written to a device with this journal. Terminal ones are left alone. */
  markSent(marks: readonly SentMark[], journal: string, options?: WriteOptions): Promise<void>;
  /** Notes a state that is not terminal (`delivered`, `started`). Never goes back, never touches a terminal one. */
  advance(id: string, state: CommandState, atMs: number, options?: WriteOptions): Promise<void>;
  /** Ends a command. The first end wins: resolves to the update that stands. */
  finish(update: TerminalUpdate, options?: WriteOptions): Promise<TerminalUpdate>;
  /** There in stores that share what they write to with an event log. */
  readonly teller?: EndTeller | undefined;
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

/** Ends a command and tells of it in one write, which is half the work, and never one without the other. */
export interface EndTeller {
  /** The log that takes the event. */
  readonly log: EventLog;
  /** As `CommandStore.finish`, with the event on the disk too, or neither. Where another end stands, the channel has a hole. */
  finish(update: TerminalUpdate, told: ToldStep, options?: WriteOptions): Promise<TerminalUpdate>;
}

/** An event that is made of a step: see `EventLog.appendStep`. */
export interface ToldStep {
  readonly channel: StepChannel;
  readonly source: StepSource;
  readonly step: number;
}

export interface SentMark {
  readonly id: string;
  readonly dueAtMs: number;
}

export interface CommandFilter {
  readonly tenant: string;
  readonly clientId?: string | undefined;
  readonly pendingOnly?: boolean | undefined;
  /** Newest first, at most this many. */
  readonly limit: number;
}
