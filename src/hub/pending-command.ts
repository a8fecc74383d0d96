import type { HubError } from '../errors.ts';
import { channelKey, clientChannel } from '../events/channels.ts';
import { StepChannel } from '../events/event-log.ts';
import { hashOf } from '../flow/hash.ts';
import { Alarm } from '../flow/timing-wheel.ts';
import type { Command, CommandRecord, CommandState, CommandUpdate, Progress } from '../protocol/command.ts';
import type { StoredCommand } from './command-store.ts';
import { CommandTrail, type PlainState } from './command-trail.ts';
import type { UpdateReader } from './update-stream.ts';

/** How a command came to be known. */
interface Accepted {
  /** Unix ms. */
  readonly acceptedAtMs: number;
  /** The same by the clock that never goes back. */
  readonly monotonic: number;
  /** In the store. */
  readonly position?: number | undefined;
  /** Where it stands; undefined where it was accepted just now. */
  readonly last?: CommandUpdate | undefined;
  /** Its client's channel, where somebody has it at hand. */
  readonly channel?: StepChannel | undefined;
  /** Where it has been, where somebody knows that. */
  readonly trail?: CommandTrail | undefined;
}

/** What is kept of a command that makes progress; most never do. */
interface Spoken {
  /** Items that it has yielded. */
  items: number;
  /** Progress that came too soon after the last one. */
  held: Progress | undefined;
  /** By the clock that never goes back. */
  lastAt: number;
}

type Ring = (pending: PendingCommand) => void;

/** A command that this process knows, from acceptance until it is forgotten some time after its end. */
export class PendingCommand extends Alarm implements CommandRecord {
  readonly command: Command;
  /** Where it has been. */
  readonly trail: CommandTrail;
  /** By the clock that never goes back. */
  readonly acceptedAtMonotonic: number;
  /** Of its id. */
  readonly hash: number;
  /** Position in the store; undefined for live commands. */
  readonly position: number | undefined;
  /** `shelf`: not on its way (the client is away, or it has ended). */
  place: 'shelf' | 'waiting' | 'in-flight' = 'shelf';
  /** Journal of the device it may have been written to; undefined: certainly never written. */
  journal: string | undefined = undefined;
  /** Number of its frame in the newest session that it was written to. */
  seq = 0;
  /** Live: goes after stored commands up to this position, so that both kinds keep the order of acceptance. */
  after = 0;
  /** Set once somebody asked for a cancel. */
  cancelReason: string | undefined = undefined;
  /** Its time is over and the device was told; the next alarm ends it. */
  isOverdue = false;
  /** A terminal update is on its way into the store. */
  isEnding = false;
  /** It was found in the store: its steps are known to the hub that had it, if to any. */
  wasFound = false;
  /** Some of its steps are known to another process alone, or to nobody any more. */
  missesSteps = false;
  /** Its own channel is open in the log: its updates are published there too. */
  hasOpenChannel = false;
  #spoken: Spoken | undefined = undefined;
  #channel: StepChannel | undefined;
  /** Nearly always there is one reader: it is kept without a set. */
  #reader: UpdateReader | undefined = undefined;
  #moreReaders: Set<UpdateReader> | undefined = undefined;
  readonly #ring: Ring;

  /** `ring`: called when its time is over. */
  constructor(command: Command, { acceptedAtMs, monotonic, position, last, channel, trail }: Accepted, ring: Ring) {
    super();
    this.command = command;
    this.trail = trail ?? new CommandTrail(command.id, command.clientId, command.payload.type, acceptedAtMs, last);
    this.acceptedAtMonotonic = monotonic;
    this.hash = hashOf(command.id);
    this.position = position;
    this.#channel = channel;
    this.#ring = ring;
  }

  override onAlarm(): void {
    this.#ring(this);
  }

  get id(): string {
    return this.command.id;
  }

  /** Unix ms. */
  get acceptedAtMs(): number {
    return this.trail.acceptedAtMs;
  }

  /** Its client's channel. */
  get clientChannel(): StepChannel {
    this.#channel ??= new StepChannel(channelKey(this.command.tenant, clientChannel(this.command.clientId)));
    return this.#channel;
  }

  get isQueued(): boolean {
    return this.position !== undefined;
  }

  get state(): CommandState {
    return this.trail.state;
  }

  get last(): CommandUpdate {
    return this.trail.last;
  }

  get hasEnded(): boolean {
    return this.trail.hasEnded;
  }

  get isStarted(): boolean {
    return this.trail.isStarted;
  }

  /** Whether somebody reads its updates. */
  get isWatched(): boolean {
    return this.#reader !== undefined || (this.#moreReaders?.size ?? 0) > 0;
  }

  get spoken(): Spoken {
    this.#spoken ??= { items: 0, held: undefined, lastAt: Number.NEGATIVE_INFINITY };
    return this.#spoken;
  }

  /** Progress that waits to be told. */
  get heldProgress(): Progress | undefined {
    return this.#spoken?.held;
  }

  /** True when `state` would be a step forward. */
  canMoveTo(state: CommandState): boolean {
    return this.trail.canMoveTo(state);
  }

  /** What a late reader is told. */
  history(): CommandUpdate[] {
    return this.trail.history();
  }

  /** Takes a step that says no more than that, and tells all readers. The caller has checked `canMoveTo`. */
  reach(state: Exclude<PlainState, 'queued'>, atMs: number): void {
    this.trail.reach(state, atMs);
    if (this.#reader?.interest === 'steps') this.#reader.offer(this.last);
    if (this.#moreReaders) this.#tellMore();
  }

  /** Takes over progress or the end and tells all readers. The caller has checked `canMoveTo`. */
  tell(update: CommandUpdate): void {
    this.trail.take(update);
    if (this.#reader && (this.hasEnded || this.#reader.interest === 'steps')) this.#reader.offer(update);
    if (this.#moreReaders) this.#tellMore();
    if (!this.hasEnded) return;
    this.#reader = undefined;
    this.#moreReaders = undefined;
  }

  /** Another hub may have sent it since it was looked at here: that is what the store knows. */
  catchUp({ sentToJournal, last }: StoredCommand): void {
    if (this.place !== 'shelf' || this.hasEnded || this.isEnding || sentToJournal === undefined) return;
    this.journal = sentToJournal;
    this.missesSteps = true;
    const { state, atMs } = last;
    const isOnItsWay = state === 'sent' || state === 'delivered' || state === 'started';
    if (isOnItsWay && this.canMoveTo(state)) this.reach(state, atMs);
  }

  /** Tells `reader` what was, then what comes. */
  attach(reader: UpdateReader, onLeft?: () => void): void {
    const { interest } = reader;
    if (interest === 'steps') for (const update of this.history()) reader.offer(update);
    if (interest === 'brief') reader.offer(this.trail.first);
    if (interest !== 'steps' && this.hasEnded) reader.offer(this.last);
    if (this.hasEnded) return;
    if (this.#reader === undefined) this.#reader = reader;
    else {
      this.#moreReaders ??= new Set();
      this.#moreReaders.add(reader);
    }
    // Who waits for the end alone does not leave before it.
    if (interest === 'end') return;
    reader.onReturn = () => {
      if (this.#reader === reader) this.#reader = undefined;
      else this.#moreReaders?.delete(reader);
      onLeft?.();
    };
  }

  /** Fails all readers: nothing more is told here. */
  leave(error: HubError): void {
    const readers = [this.#reader, ...(this.#moreReaders ?? [])];
    this.#reader = undefined;
    this.#moreReaders = undefined;
    for (const reader of readers) reader?.fail(error);
  }

  #tellMore(): void {
    const { last } = this;
    for (const reader of this.#moreReaders!) if (this.hasEnded || reader.interest === 'steps') reader.offer(last);
  }
}
