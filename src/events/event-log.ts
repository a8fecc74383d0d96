import type { JsonText } from './json-text.ts';

/** An event on its way into a channel. */
export interface NewEvent {
  /** What happened: `client.connected`, `command.succeeded`, `temperature`. */
  readonly type: string;
  /** Unix ms. */
  readonly atMs: number;
  /**
   * The data, a function that makes it when the event is first read (nobody pays for events nobody watches), or a
   * `JsonText`. What is no JSON then is refused where it is kept, and `{unreadable}` where it is only read.
   */
  readonly data: unknown | (() => unknown) | JsonText;
  /** True: must outlive the process (where the log can). False: lives in a bounded ring in memory. */
  readonly durable: boolean;
  /** The data never changes and takes less memory than its text: that is made again where it is read. Default: false. */
  readonly isLasting?: boolean | undefined;
  /** Who numbered it, so that an event that is sent again is recognised: (`id`, `seq`) is kept at most once. */
  readonly producer?: { readonly id: string; readonly seq: number } | undefined;
  /** About how many bytes `data` holds on to; counts against the limits of memory. Default: 256. */
  readonly bytes?: number | undefined;
}

/** What goes through steps that can be told as events, each of which is made only if somebody reads it. */
export interface StepSource {
  /** About how many bytes the event of `step` holds on to. The same whenever it is asked. */
  bytesOf(step: number): number;
  eventOf(step: number): NewEvent;
  /** For its channel to note the number that the first step got. 0: none yet. */
  firstSeq: number;
  /** No step comes after the newest one. */
  readonly isOver: boolean;
  /** Of one that is over: writes all that its events need into `page` at `at`. Where that ended; 0 if it does not fit. */
  pack(page: Uint8Array, at: number): number;
  /** Makes the same of what `pack` has written. The same function for all sources of one channel. */
  readonly unpack: (page: Uint8Array, at: number) => StepSource;
}

/** A channel to which many steps go. Whoever tells them keeps it, so that the log need not look for it at each. */
export class StepChannel {
  readonly key: string;
  /** For the log to note where it has it: what that is is its own business. */
  tail: object | undefined = undefined;

  constructor(key: string) {
    this.key = key;
  }
}

/** An event as it stands in a channel. */
export interface LogEvent {
  readonly channel: string;
  readonly epoch: number;
  readonly seq: number;
  readonly type: string;
  readonly atMs: number;
  /** The whole event as one line of JSON, `{channel, epoch, seq, type, at, data}`; made once, on first use. */
  json(): string;
  /** The data alone as one line of JSON; made once, on first use. */
  dataJson(): string;
  /** A place for one encoded form (an SSE frame), so that it is made once for all watchers. */
  encoded?: Buffer | undefined;
}

/** What is known of a command: what its channel begins with. */
export interface CommandHistory {
  readonly events: readonly NewEvent[];
  /** False: there was more, which nobody knows any more. It is told as a gap before the events. */
  readonly isWhole: boolean;
}

/** A place in a channel: after event `seq` of `epoch`. Epochs and numbers only grow. `seq` 0: before the first. */
export interface Position {
  readonly epoch: number;
  readonly seq: number;
}

/** What a reader finds after its position. */
export interface EventPage {
  readonly events: readonly LogEvent[];
  /** Set when something between the position and the first event (or the end) is not there any more. */
  readonly gap?: EventGap | undefined;
  /** Position after this page. */
  readonly next: Position;
  /** True when nothing visible comes after this page. */
  readonly atEnd: boolean;
}

export type EventGap =
  /** Numbers `from` to `to` of the epoch were dropped by retention, or were never kept. */
  | { readonly kind: 'gap'; readonly epoch: number; readonly from: number; readonly to: number }
  /** The position is of another epoch (the hub was restarted), from the future, or of a channel that was forgotten.
   *  After `restarted`, only what was durable is left of older epochs; in the log's own epoch every hole is told again. */
  | { readonly kind: 'reset'; readonly reason: 'restarted' | 'unknown-position' };

/**
 * Named, ordered, replayable streams of events. `seq` is gapless within an `epoch`; a new process begins a new epoch,
 * in which durable events of older epochs can still be read, in order, before its own.
 * A durable event becomes visible only once it is kept, and never before an earlier event of its channel.
 */
export interface EventLog {
  /** The epoch of what is appended now. */
  readonly epoch: number;
  /** Resolves once the event is kept as asked; for events that are not durable at once (undefined). A repeated
   *  producer number resolves and adds nothing. */
  append(channel: string, event: NewEvent): Promise<void> | undefined;
  /**
   * Appends step 0 to 7 of `source` as an event, and answers as `append` does: all that memory keeps of it, until somebody
   * reads, is this call. Undefined in logs that have no cheaper way than `append`.
   */
  appendStep?(channel: StepChannel, source: StepSource, step: number, isDurable: boolean): Promise<void> | undefined;
  /** Whether somebody waits for what comes into a channel, or has found something there: it is not asked for its history any more. */
  isOpen(channel: string): boolean;
  /** Events after a position. Answers at once, without a promise, when memory has them. */
  read(channel: string, after: Position, limit: number): EventPage | Promise<EventPage>;
  /** The position after the newest visible event. */
  end(channel: string): Position | Promise<Position>;
  /** Calls `wake` (a hint, cheap, perhaps once for many events) after something became visible. Returns the release. */
  watch(channel: string, wake: () => void): () => void;
  /**
   * Names who knows what belongs into the channel of a command that nobody has read yet. `known` is asked when such
   * a channel is first read or watched, and from then on its events are appended: commands nobody watches cost nothing.
   * `stored` is asked where no node that shares the log knows the command.
   */
  recallCommands(
    known: (channel: string) => CommandHistory | undefined,
    stored?: (channel: string) => Promise<CommandHistory | undefined>,
  ): void;
  /** Begins the channel of a command, though nobody has read it yet, unless it has begun. */
  beginCommand(channel: string, history: CommandHistory): void;
  /** The highest producer number kept from `producerId` in a channel; 0 for none. */
  lastFrom(channel: string, producerId: string): Promise<number>;
  close(): Promise<void>;
}
