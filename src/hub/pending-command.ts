import type { HubError } from '../errors.ts';
import { channelKey, clientChannel } from '../events/channels.ts';
import { Alarm } from '../flow/timing-wheel.ts';
import {
  type Command,
  type CommandRecord,
  type CommandState,
  type CommandUpdate,
  isTerminal,
  type Progress,
} from '../protocol/command.ts';
import type { UpdateReader } from './update-stream.ts';

type ProgressUpdate = Extract<CommandUpdate, { state: 'progress' }>;

/** Where the states stand in a command's life; a command only moves up. */
const rank: Record<CommandState, number> = {
  queued: 0,
  sent: 1,
  delivered: 2,
  started: 3,
  progress: 4,
  succeeded: 5,
  failed: 5,
  rejected: 5,
  cancelled: 5,
  expired: 5,
  unknown: 5,
};

/** A command that this process knows, from acceptance until it is forgotten some time after its end. */
export class PendingCommand extends Alarm implements CommandRecord {
  readonly command: Command;
  /** Unix ms. */
  readonly acceptedAtMs: number;
  /** By the clock that never goes back. */
  readonly acceptedAtMonotonic: number;
  /** Position in the store; undefined for live commands. */
  readonly position: number | undefined;
  /** `shelf`: not on its way (the client is away, or it has ended). */
  place: 'shelf' | 'waiting' | 'in-flight' = 'shelf';
  /** Journal of the device it may have been written to; undefined: certainly never written. */
  journal: string | undefined;
  /** Live: goes after stored commands up to this position, so that both kinds keep the order of acceptance. */
  after = 0;
  /** Set once somebody asked for a cancel. */
  cancelReason: string | undefined;
  /** Its time is over and the device was told; the next alarm ends it. */
  isOverdue = false;
  /** A terminal update is on its way into the store. */
  isEnding = false;
  /** Progress that came too soon after the last one. */
  heldProgress: Progress | undefined;
  lastProgressAt = Number.NEGATIVE_INFINITY;
  last: CommandUpdate;
  // When it reached the states that say no more than that, in Unix ms; 0 for those that it skipped or that nobody knows.
  #sentAtMs = 0;
  #deliveredAtMs = 0;
  #startedAtMs = 0;
  #progress: ProgressUpdate | undefined;
  #item: ProgressUpdate | undefined;
  /** Items that it has yielded. */
  items = 0;
  /** Its own channel is open in the log: its updates are published there too. */
  hasOpenChannel = false;
  #clientChannel: string | undefined;
  /** Nearly always there is one reader: it is kept without a set. */
  #reader: UpdateReader | undefined;
  #moreReaders: Set<UpdateReader> | undefined;
  readonly #ring: (pending: PendingCommand) => void;

  constructor(
    accepted: CommandRecord & { position?: number | undefined; monotonic: number },
    ring: (pending: PendingCommand) => void,
  ) {
    super();
    this.command = accepted.command;
    this.acceptedAtMs = accepted.acceptedAtMs;
    this.acceptedAtMonotonic = accepted.monotonic;
    this.position = accepted.position;
    this.last = accepted.last;
    this.#ring = ring;
  }

  get id(): string {
    return this.command.id;
  }

  /** Key of its client's channel. */
  get clientChannel(): string {
    this.#clientChannel ??= channelKey(this.command.tenant, clientChannel(this.command.clientId));
    return this.#clientChannel;
  }

  get isQueued(): boolean {
    return this.position !== undefined;
  }

  get hasEnded(): boolean {
    return isTerminal(this.last.state);
  }

  get isStarted(): boolean {
    return rank[this.last.state] >= rank.started;
  }

  /** Whether somebody reads its updates. */
  get isWatched(): boolean {
    return this.#reader !== undefined || (this.#moreReaders?.size ?? 0) > 0;
  }

  override onAlarm(): void {
    this.#ring(this);
  }

  /** True when `state` would be a step forward. */
  canMoveTo(state: CommandState): boolean {
    return state === 'progress' ? rank[this.last.state] <= rank.progress : rank[state] > rank[this.last.state];
  }

  /** What a late reader is told: every state that is known, the newest item and progress, the end. */
  history(): CommandUpdate[] {
    const { commandId, clientId } = this.last;
    const at = (state: 'queued' | 'sent' | 'delivered' | 'started', atMs: number): CommandUpdate[] =>
      atMs === 0 ? [] : [{ commandId, clientId, state, atMs }];
    const history = [
      ...at('queued', this.acceptedAtMs),
      ...at('sent', this.#sentAtMs),
      ...at('delivered', this.#deliveredAtMs),
      ...at('started', this.#startedAtMs),
    ];
    for (const progress of [this.#item, this.#progress]) if (progress && progress !== this.last) history.push(progress);
    // The newest one, the end, or what another process had come to.
    if (history.at(-1)?.state !== this.last.state || this.last.state === 'progress') history.push(this.last);
    return history;
  }

  /** Takes over an update and tells all readers. The caller has checked `canMoveTo`. */
  tell(update: CommandUpdate): void {
    switch (update.state) {
      case 'sent':
        this.#sentAtMs = update.atMs;
        break;
      case 'delivered':
        this.#deliveredAtMs = update.atMs;
        break;
      case 'started':
        this.#startedAtMs = update.atMs;
        break;
      case 'progress':
        if (update.progress.item === undefined) this.#progress = update;
        else this.#item = update;
    }
    this.last = update;
    this.#reader?.offer(update);
    if (this.#moreReaders) for (const reader of this.#moreReaders) reader.offer(update);
    if (!isTerminal(update.state)) return;
    this.#reader = undefined;
    this.#moreReaders = undefined;
  }

  /** Fails all readers: nothing more is told here. */
  leave(error: HubError): void {
    const readers = [this.#reader, ...(this.#moreReaders ?? [])];
    this.#reader = undefined;
    this.#moreReaders = undefined;
    for (const reader of readers) reader?.fail(error);
  }

  /** Tells `reader` what was, then what comes. */
  attach(reader: UpdateReader, onLeft?: () => void): void {
    // Nearly always it is the sender, and nothing has happened yet.
    if (this.last.state === 'queued') reader.offer(this.last);
    else for (const update of this.history()) reader.offer(update);
    if (this.hasEnded) return;
    if (this.#reader === undefined) this.#reader = reader;
    else {
      this.#moreReaders ??= new Set();
      this.#moreReaders.add(reader);
    }
    reader.onReturn = () => {
      if (this.#reader === reader) this.#reader = undefined;
      else this.#moreReaders?.delete(reader);
      onLeft?.();
    };
  }
}
