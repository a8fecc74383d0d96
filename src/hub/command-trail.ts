import type { NewEvent, StepSource } from '../events/event-log.ts';
import {
  beginPacking,
  beginUnpacking,
  endPacking,
  giveUpPacking,
  packBytes,
  packCount,
  packNumber,
  packText,
  packTextOrNothing,
  unpackBytes,
  unpackCount,
  unpackNumber,
  unpackText,
  unpackTextOrNothing,
} from '../flow/packing.ts';
import {
  type CommandState,
  type CommandUpdate,
  isTerminalUpdate,
  type TerminalState,
  type TerminalUpdate,
} from '../protocol/command.ts';
import { bytesOf, CommandEvent, updateBytes } from './command-event.ts';

type ProgressUpdate = Extract<CommandUpdate, { state: 'progress' }>;
/** A state that says no more than that it was reached. */
export type PlainState = 'queued' | 'sent' | 'delivered' | 'started';

const plainStates: readonly PlainState[] = ['queued', 'sent', 'delivered', 'started'];
const progressStep = 4;
/** The number of the end among the steps. */
export const endStep = 5;
const ends: readonly TerminalState[] = ['succeeded', 'failed', 'rejected', 'cancelled', 'expired', 'unknown'];

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

/**
 * Where a command has been, and where it is. Rings of events hold on to this, and not to the command with its payload; its
 * updates and events are objects only where somebody reads them.
 */
export class CommandTrail implements StepSource {
  readonly commandId: string;
  readonly clientId: string;
  /** Of the payload. */
  readonly type: string;
  /** Unix ms. */
  readonly acceptedAtMs: number;
  firstSeq = 0;
  #step: number;
  /** Where it comes to once that is stored, for the event that is stored with it. */
  #foreseen: TerminalUpdate | undefined = undefined;
  /** The newest update, where it is more than a plain state or somebody asked for it. */
  #last: CommandUpdate | undefined;
  // When it reached the plain states, in ms after acceptance (small integers cost no memory of their own); undefined for
  // those that it skipped or that nobody knows.
  #sentAfter: number | undefined = undefined;
  #deliveredAfter: number | undefined = undefined;
  #startedAfter: number | undefined = undefined;
  #progress: ProgressUpdate | undefined = undefined;
  #item: ProgressUpdate | undefined = undefined;

  /** `last`: undefined for a command that is accepted now. */
  constructor(
    commandId: string,
    clientId: string,
    type: string,
    acceptedAtMs: number,
    last: CommandUpdate | undefined,
  ) {
    this.commandId = commandId;
    this.clientId = clientId;
    this.type = type;
    this.acceptedAtMs = acceptedAtMs;
    this.#last = last;
    this.#step = last === undefined ? 0 : steps[last.state];
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

  /** The number under which the newest state can be asked for as an event later; undefined for progress. */
  get step(): number | undefined {
    return this.#step === progressStep ? undefined : this.#step;
  }

  /** True when `state` would be a step forward. */
  canMoveTo(state: CommandState): boolean {
    return state === 'progress' ? this.#step <= progressStep : steps[state] > this.#step;
  }

  reach(state: Exclude<PlainState, 'queued'>, atMs: number): void {
    const after = atMs - this.acceptedAtMs;
    if (state === 'sent') this.#sentAfter = after;
    else if (state === 'delivered') this.#deliveredAfter = after;
    else this.#startedAfter = after;
    this.#step = steps[state];
    this.#last = undefined;
  }

  /** Takes over progress or the end. */
  take(update: CommandUpdate): void {
    if (update.state === 'progress') {
      if (update.progress.item === undefined) this.#progress = update;
      else this.#item = update;
    }
    this.#last = update;
    this.#step = steps[update.state];
    this.#foreseen = undefined;
  }

  /** How it will end, if that can be stored: from now on its last step is an event, and nothing comes before that any more. */
  foresee(end: TerminalUpdate): void {
    this.#foreseen = end;
  }

  /** That it was accepted. */
  get first(): CommandUpdate {
    return this.#plain('queued');
  }

  /** Every state that is known, the newest item and progress, the end. */
  history(): CommandUpdate[] {
    const history = [this.first];
    if (this.#sentAfter !== undefined) history.push(this.#plain('sent'));
    if (this.#deliveredAfter !== undefined) history.push(this.#plain('delivered'));
    if (this.#startedAfter !== undefined) history.push(this.#plain('started'));
    const { last } = this;
    for (const progress of [this.#item, this.#progress]) if (progress && progress !== last) history.push(progress);
    // The newest one, the end, or what another process had come to.
    if (history.at(-1)!.state !== last.state || last.state === 'progress') history.push(last);
    return history;
  }

  /** Nothing more will come: it can be packed. */
  get isOver(): boolean {
    return this.hasEnded || this.#foreseen !== undefined;
  }

  pack(page: Uint8Array, at: number): number {
    beginPacking(page, at);
    this.packInto();
    return endPacking();
  }

  /** Writes a life that is over where the packing is. One that made progress has more to tell than fits. */
  packInto(): void {
    const last = this.#end;
    if (last === undefined || !isTerminalUpdate(last) || this.#progress || this.#item) {
      giveUpPacking();
      return;
    }
    packText(this.commandId);
    packText(this.clientId);
    packText(this.type);
    packNumber(this.acceptedAtMs);
    packCount(this.#sentAfter);
    packCount(this.#deliveredAfter);
    packCount(this.#startedAfter);
    packNumber(last.atMs);
    packCount(ends.indexOf(last.state));
    if (last.state === 'succeeded') {
      packTextOrNothing(last.result.type === this.type ? undefined : last.result.type);
      packBytes(last.result.value);
    } else {
      packText(last.error.code);
      packText(last.error.message);
    }
  }

  get unpack(): (page: Uint8Array, at: number) => CommandTrail {
    return CommandTrail.unpacked;
  }

  /** What `pack` has written. */
  static unpacked(page: Uint8Array, at: number): CommandTrail {
    beginUnpacking(page, at);
    return CommandTrail.unpackNext();
  }

  /** What `packInto` has written, where the unpacking is. */
  static unpackNext(): CommandTrail {
    const commandId = unpackText();
    const clientId = unpackText();
    const trail = new CommandTrail(commandId, clientId, unpackText(), unpackNumber(), undefined);
    trail.#sentAfter = unpackCount();
    trail.#deliveredAfter = unpackCount();
    trail.#startedAfter = unpackCount();
    const base = { commandId, clientId, atMs: unpackNumber() };
    const state = ends[unpackCount()!]!;
    if (state === 'succeeded') {
      const type = unpackTextOrNothing() ?? trail.type;
      trail.take({ ...base, state, result: { type, value: unpackBytes() } });
    } else trail.take({ ...base, state, error: { code: unpackText(), message: unpackText() } });
    return trail;
  }

  bytesOf(step: number): number {
    return step === endStep ? bytesOf(this.#end!) : updateBytes;
  }

  eventOf(step: number): NewEvent {
    return new CommandEvent(this.type, step === endStep ? this.#end! : this.#plain(plainStates[step]!), false);
  }

  /** How it has ended, or is about to. */
  get #end(): CommandUpdate | undefined {
    return this.#foreseen ?? this.#last;
  }

  #plain(state: PlainState): CommandUpdate {
    return { commandId: this.commandId, clientId: this.clientId, state, atMs: this.#atMs(state) };
  }

  #atMs(state: PlainState): number {
    if (state === 'queued') return this.acceptedAtMs;
    const after = { sent: this.#sentAfter, delivered: this.#deliveredAfter, started: this.#startedAfter };
    return this.acceptedAtMs + (after[state] ?? 0);
  }
}
