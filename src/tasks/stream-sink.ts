import { HubError } from '../errors.ts';

/** One event on its way from a stream context to where events are kept. */
export interface StreamEvent {
  readonly tenant: string;
  readonly channel: string;
  readonly type: string;
  /** Its data as one line of JSON: what was told is not changed by what happens to it afterwards. */
  readonly json: string;
  /** Unix ms. */
  readonly atMs: number;
  /** Whether it has to outlive the process that keeps it. */
  readonly durable: boolean;
  /** The claim under which it is told; an event of an older claim is refused. */
  readonly fence?: StreamFence | undefined;
}

export interface StreamFence {
  readonly runId: string;
  readonly epoch: number;
}

/** Where stream contexts of this process bring their events: a log in this process, or a road to another one. */
export interface StreamSink {
  /** Resolves once the event is kept as asked. Undefined: at once. */
  append(event: StreamEvent): Promise<void> | undefined;
  /** Name of the channel of a new stream before its id. Default: `stream:`. */
  readonly channelPrefix?: string | undefined;
}

let current: StreamSink | undefined;

/** Names the sink of all contexts that are given none. Undefined: none. Returns the one before. */
export function setStreamSink(sink: StreamSink | undefined): StreamSink | undefined {
  const before = current;
  current = sink;
  return before;
}

/** Throws `unavailable` when nobody has named one. */
export function streamSink(): StreamSink {
  if (!current)
    throw new HubError('unavailable', 'streams lead nowhere yet: call initStreaming(...) when this process starts');
  return current;
}

/** The prefix of streams that are made for this sink; undefined: for the one that was named. */
export const channelPrefixOf = (sink: StreamSink | undefined): string => (sink ?? current)?.channelPrefix ?? 'stream:';
