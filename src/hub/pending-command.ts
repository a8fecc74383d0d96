import type { HubError } from '../errors.ts';
import { channelKey, clientChannel } from '../events/channels.ts';
import type { NewEvent, StepSource } from '../events/event-log.ts';
import { Alarm } from '../flow/timing-wheel.ts';
import type { Command, CommandRecord, CommandState, CommandUpdate, Progress } from '../protocol/command.ts';
import { CommandEvent, updateBytes } from './command-event.ts';
import type { UpdateReader } from './update-stream.ts';

type ProgressUpdate = Extract<CommandUpdate, { state: 'progress' }>;
/** A state that says no more than that it was reached. */
export type PlainState = 'queued' | 'sent' | 'delivered' | 'started';

const plainStates: readonly PlainState[] = ['queued', 'sent', 'delivered', 'started'];
const progressStep = 4;
const endStep = 5;

/** Where the states stand in a command's life; a command only moves up. */
const steps: Record<CommandState, number> = {
  queued: 0,
  sent: 1,
  delivered: 2,
  started: 3,
  progress: progressStep,
  succeeded: endStep,
  failed: endStep,
  rejected: endStep,
  cancelled: endStep,
  expired: endStep,
  unknown: endStep,
};

/** What a command has of its progress; most never have any. */
interface Spoken {
  progress: ProgressUpdate | undefined;
  item: ProgressUpdate | undefined;
  /** Items that it has yielded. */
  items: number;
  /** Progress that came too soon after the last one. */
  held: Progress | undefined;
  /** By the clock that never goes back. */
  lastAt: number;
}

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
  /** Key of its client's channel, where somebody has it at hand. */
  readonly channel?: string | undefined;
}

type Ring = (pending: PendingCommand) => void;

/**
 * A command that this process knows, from acceptance until it is forgotten some time after its end. Thousands a second
 * are made, and the newest thousands kept: its updates and events are objects only where somebody reads them.
 */
export class PendingCommand extends Alarm implements CommandRecord, StepSource {
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
  journal: string | undefined = undefined;
  /** Live: goes after stored commands up to this position, so that both kinds keep the order of acceptance. */
  after = 0;
  /** Set once somebody asked for a cancel. */
  cancelReason: string | undefined = undefined;
  /** Its time is over and the device was told; the next alarm ends it. */
  isOverdue = false;
  /** A terminal update is on its way into the store. */
  isEnding = false;
  /** Its own channel is open in the log: its updates are published there too. */
  hasOpenChannel = false;
  #step: number;
  /** The newest update, where it is more than a plain state or somebody asked for it. */
  #last: CommandUpdate | undefined;
  // When it reached the plain states, in ms after acceptance (small integers cost no memory of their own); undefined for
  // those that it skipped or that nobody knows.
  #sentAfter: number | undefined = undefined;
  #deliveredAfter: number | undefined = undefined;
  #startedAfter: number | undefined = undefined;
  #spoken: Spoken | undefined = undefined;
  #channel: string | undefined;
  /** Nearly always there is one reader: it is kept without a set. */
  #reader: UpdateReader | undefined = undefined;
  #moreReaders: Set<UpdateReader> | undefined = undefined;
  readonly #ring: Ring;

  /** `ring`: called when its time is over. */
  constructor(command: Command, { acceptedAtMs, monotonic, position, last, channel }: Accepted, ring: Ring) {
    super();
    this.command = command;
    this.acceptedAtMs = acceptedAtMs;
    this.acceptedAtMonotonic = monotonic;
    this.position = position;
    this.#last = last;
    this.#step = last === undefined ? 0 : steps[last.state];
    this.#channel = channel;
    this.#ring = ring;
  }

  override onAlarm(): void {
    this.#ring(this);
  }

  get id(): string {
    return this.command.id;
  }

  /** Key of its client's channel. */
  get clientChannel(): string {
    this.#channel ??= channelKey(this.command.tenant, clientChannel(this.command.clientId));
    return this.#channel;
  }

  get isQueued(): boolean {
    return this.position !== undefined;
  }

  get state(): CommandState {
    return this.#last === undefined ? plainStates[this.#step]! : this.#last.state;
  }

  get last(): CommandUpdate {
    this.#last ??= this.#plain(plainStates[this.#step]!);
    return this.#last;
  }

  get hasEnded(): boolean {
    return this.#step === endStep;
  }

  get isStarted(): boolean {
    return this.#step >= steps.started;
  }

  /** Whether somebody reads its updates. */
  get isWatched(): boolean {
    return this.#reader !== undefined || (this.#moreReaders?.size ?? 0) > 0;
  }

  get spoken(): Spoken {
    this.#spoken ??= {
      progress: undefined,
      item: undefined,
      items: 0,
      held: undefined,
      lastAt: Number.NEGATIVE_INFINITY,
    };
    return this.#spoken;
  }

  /** Progress that waits to be told. */
  get heldProgress(): Progress | undefined {
    return this.#spoken?.held;
  }

  /** True when `state` would be a step forward. */
  canMoveTo(state: CommandState): boolean {
    return state === 'progress' ? this.#step <= progressStep : steps[state] > this.#step;
  }

  /** What a late reader is told: every state that is known, the newest item and progress, the end. */
  history(): CommandUpdate[] {
    const history: CommandUpdate[] = [this.#plain('queued')];
    if (this.#sentAfter !== undefined) history.push(this.#plain('sent'));
    if (this.#deliveredAfter !== undefined) history.push(this.#plain('delivered'));
    if (this.#startedAfter !== undefined) history.push(this.#plain('started'));
    const { last } = this;
    if (this.#spoken)
      for (const progress of [this.#spoken.item, this.#spoken.progress])
        if (progress && progress !== last) history.push(progress);
    // The newest one, the end, or what another process had come to.
    if (history.at(-1)!.state !== last.state || last.state === 'progress') history.push(last);
    return history;
  }

  /** Takes a step that says no more than that, and tells all readers. The caller has checked `canMoveTo`. */
  reach(state: Exclude<PlainState, 'queued'>, atMs: number): void {
    const after = atMs - this.acceptedAtMs;
    if (state === 'sent') this.#sentAfter = after;
    else if (state === 'delivered') this.#deliveredAfter = after;
    else this.#startedAfter = after;
    this.#step = steps[state];
    this.#last = undefined;
    if (this.#reader?.wantsSteps) this.#reader.offer(this.last);
    if (this.#moreReaders) this.#tellMore();
  }

  /** Takes over progress or the end and tells all readers. The caller has checked `canMoveTo`. */
  tell(update: CommandUpdate): void {
    if (update.state === 'progress') {
      if (update.progress.item === undefined) this.spoken.progress = update;
      else this.spoken.item = update;
    }
    this.#last = update;
    this.#step = steps[update.state];
    if (this.#step === endStep || this.#reader?.wantsSteps) this.#reader?.offer(update);
    if (this.#moreReaders) this.#tellMore();
    if (this.#step !== endStep) return;
    this.#reader = undefined;
    this.#moreReaders = undefined;
  }

  /** Tells `reader` what was, then what comes. */
  attach(reader: UpdateReader, onLeft?: () => void): void {
    if (reader.wantsSteps) for (const update of this.history()) reader.offer(update);
    else if (this.hasEnded) reader.offer(this.last);
    if (this.hasEnded) return;
    if (this.#reader === undefined) this.#reader = reader;
    else {
      this.#moreReaders ??= new Set();
      this.#moreReaders.add(reader);
    }
    // Who waits for the end alone does not leave before it.
    if (!reader.wantsSteps) return;
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

  /** The number under which the newest state can be asked for as an event later; undefined for progress. */
  get step(): number | undefined {
    return this.#step === progressStep ? undefined : this.#step;
  }

  bytesOf(step: number): number {
    if (step === endStep) return updateBytes + this.#resultBytes;
    // Whoever keeps a step keeps the whole command: its payload counts with the one that all of them take.
    return step === steps.sent ? updateBytes + this.command.payload.value.length : updateBytes;
  }

  eventOf(step: number): NewEvent {
    const update = step === endStep ? this.last : this.#plain(plainStates[step]!);
    return new CommandEvent(this.command.payload.type, update, false, this.bytesOf(step));
  }

  get #resultBytes(): number {
    return this.#last?.state === 'succeeded' ? this.#last.result.value.length : 0;
  }

  #plain(state: PlainState): CommandUpdate {
    return { commandId: this.command.id, clientId: this.command.clientId, state, atMs: this.#atMs(state) };
  }

  #atMs(state: PlainState): number {
    const after = { queued: 0, sent: this.#sentAfter, delivered: this.#deliveredAfter, started: this.#startedAfter };
    return this.acceptedAtMs + (after[state] ?? 0);
  }

  #tellMore(): void {
    const { last } = this;
    for (const reader of this.#moreReaders!) if (this.hasEnded || reader.wantsSteps) reader.offer(last);
  }
}
