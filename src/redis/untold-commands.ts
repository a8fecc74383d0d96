import type { CommandHistory, NewEvent } from '../events/event-log.ts';
import { EventTail, type EventTailOptions } from '../events/event-tail.ts';
import { readableJson } from '../events/kept-event.ts';
import type { Step } from './event-shard.ts';

/** Channels that have begun here and that nobody has read, remembered. */
const maxBegun = 10_000;
/** Channels that this node has told of, remembered. */
const maxTold = 20_000;

/** What this node has to tell of commands, once anybody wants to know. */
export class UntoldCommands {
  readonly #beginnings = new Map<string, CommandHistory>();
  /** What came after the beginnings. */
  readonly #tail: EventTail;
  readonly #told = new Set<string>();
  /** Knows commands that have no beginning here. */
  known: (channel: string) => CommandHistory | undefined = () => undefined;

  constructor(options: EventTailOptions) {
    this.#tail = new EventTail(1, options);
  }

  /** Something of it is here, or was told: it is not to begin anew. */
  has(channel: string): boolean {
    return this.#beginnings.has(channel) || this.#tail.isOpen(channel) || this.#told.has(channel);
  }

  begin(channel: string, history: CommandHistory): void {
    this.#beginnings.set(channel, history);
    if (this.#beginnings.size <= maxBegun) return;
    const oldest = this.#beginnings.keys().next().value!;
    this.#beginnings.delete(oldest);
    this.#tail.take(oldest);
  }

  /** Keeps an event of a channel. True where somebody may have a place in it. */
  add(channel: string, event: NewEvent): boolean {
    this.#tail.add(this.#tail.open(channel), event, 'kept');
    return this.#told.has(channel);
  }

  /** Hands over what is to be told now. Empty where nothing is known here. */
  take(channel: string): Step[] {
    const beginning = this.#beginnings.get(channel);
    this.#beginnings.delete(channel);
    const rest = this.#tail.take(channel);
    const history = beginning ?? (rest ? undefined : this.known(channel));
    const steps = history ? beginningOf(channel, history) : [];
    if (rest && !rest.isWhole) steps.push({ kind: 'hole', channel });
    // What a channel begins with is told if nobody else was first; what was appended is told in any case.
    for (const event of rest?.events ?? [])
      steps.push({ kind: 'event', channel, type: event.type, at: event.atMs, data: event.dataJson() });
    if (steps.length > 0) this.noteTold(channel);
    return steps;
  }

  noteTold(channel: string): void {
    this.#told.add(channel);
    if (this.#told.size > maxTold) this.#told.delete(this.#told.keys().next().value!);
  }

  close(): void {
    this.#tail.close();
  }
}

/** The steps that let a channel begin, unless it has begun. */
export function beginningOf(channel: string, { events, isWhole }: CommandHistory): Step[] {
  const steps = events.map((event) => stepOf('opening', channel, event));
  return isWhole ? steps : [{ kind: 'opening', channel }, ...steps];
}

export function stepOf(kind: 'event' | 'opening', channel: string, event: NewEvent): Step {
  const { type, atMs: at, producer } = event;
  return { kind, channel, type, at, data: readableJson(event.data), producer };
}
