import { HubError } from '../../errors.ts';
import { channelKey, checkChannelName, defaultTenant } from '../../events/channels.ts';
import { decodeCursor } from '../../events/cursor.ts';
import type { EventArchive } from '../../events/event-archive.ts';
import type { EventLog } from '../../events/event-log.ts';
import { findEvent, isBefore } from '../../events/find-event.ts';
import { GapNotice } from '../../events/gap-notice.ts';
import { watchEvents } from '../../events/watch-events.ts';
import { type Clock, systemClock } from '../../flow/clock.ts';
import { problemHeaders, problemOf, problemType } from '../../gateway/problem.ts';
import { encodeFrame, frameOf, gapFrame, hubFrame, idLine } from '../../gateway/sse/frame.ts';
import { streamHeaders } from '../../gateway/sse/stream-headers.ts';
import type { Lease, StreamLeases } from '../../leases/index.ts';
import { rollUp, StreamContext } from '../../tasks/index.ts';
import { isOwnEventType } from '../../tasks/stream-context.ts';
import { sseBody } from './sse-body.ts';

export interface ChannelOptions {
  /** Name of a channel before the id of its stream. Default: `stream:`. */
  readonly prefix?: string | undefined;
  /** A quiet stream gets a comment after so many ms. Default: 15,000. */
  readonly pingMs?: number | undefined;
  /** Without an event for so many ms the answer ends with `hub.idle`; 0: never. Default: 300,000. */
  readonly idleLimitMs?: number | undefined;
  /** How soon a browser comes back after a cut, in ms. Default: 2000. */
  readonly retryMs?: number | undefined;
}

export interface SseOptions extends Omit<ChannelOptions, 'prefix'> {
  readonly tenant?: string | undefined;
  /** Where the browser goes on: the header Last-Event-ID. Default: the first event that is kept. */
  readonly lastEventId?: string | null | undefined;
  /** Further headers of the answer. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Ends the answer. */
  readonly signal?: AbortSignal | undefined;
}

export interface DirectSseOptions extends Omit<SseOptions, 'lastEventId'> {
  /** Whose place the answer takes. */
  readonly userId?: string | undefined;
  /** Whether a place is taken. Default: if there is a `userId`. */
  readonly useLease?: boolean | undefined;
  /** Texts are joined over so many ms, 0 to 500. Default: 0, each goes by itself; 40 for what is recorded. */
  readonly rollUpMs?: number | undefined;
  /** Records all of it in this stream: a reload goes on with `sseResponse`, and the source is read to its end whoever leaves. */
  readonly record?: StreamContext | undefined;
}

/** A stream by its context or its id. `channel`: any channel of the log by its whole name, `task.<run>`; who may see it is for you to say. */
export type StreamRef = StreamContext | string | { readonly channel: string };

export interface StreamingParts {
  readonly log?: EventLog | undefined;
  readonly leases?: StreamLeases | undefined;
  readonly archive?: Pick<EventArchive, 'query'> | undefined;
  readonly channel?: ChannelOptions | undefined;
  readonly clock?: Clock | undefined;
  /** Lets go of what was opened. */
  readonly close: () => Promise<void>;
}

/** Answers with streams: Web `Response`s, for Fastify, Hono, Next, Bun; `sendResponse` brings them to plain Node. */
export class Streaming implements AsyncDisposable {
  readonly leases: StreamLeases | undefined;
  /** Finds what was told, across streams: in SQLite, or in OpenSearch. Undefined where nothing is kept to look through. */
  readonly archive: Pick<EventArchive, 'query'> | undefined;
  readonly #log: EventLog | undefined;
  readonly #channel: Required<{ [Key in keyof ChannelOptions]: NonNullable<ChannelOptions[Key]> }>;
  readonly #clock: Clock;
  readonly #close: () => Promise<void>;
  readonly #stop = new AbortController();
  #closing: Promise<void> | undefined;

  /** Throws `invalid-argument` naming the option of `channel` at fault. */
  constructor({ log, leases, archive, channel = {}, clock = systemClock, close }: StreamingParts) {
    this.#channel = channelOptions(channel);
    this.#log = log;
    this.leases = leases;
    this.archive = archive;
    this.#clock = clock;
    this.#close = close;
  }

  /**
   * The channel of a stream. A text never leads out of the streams, wherever it comes from: it is the id of one, or its
   * channel's name with the prefix. Throws `invalid-argument` for anything else.
   */
  channelOf(stream: StreamRef): string {
    if (stream instanceof StreamContext) return stream.channel;
    const { prefix } = this.#channel;
    if (typeof stream === 'string' && stream !== '' && stream !== prefix) {
      const name = stream.startsWith(prefix) ? stream : `${prefix}${stream}`;
      checkChannelName(name);
      return name;
    }
    if (typeof stream !== 'object' || stream === null || typeof stream.channel !== 'string')
      throw new HubError(
        'invalid-argument',
        `${JSON.stringify(stream)} is no stream: its context, its id or { channel } is asked for`,
      );
    checkChannelName(stream.channel);
    return stream.channel;
  }

  /** The events of a stream, from where the browser was to `done`. 204 for one that had seen the end. */
  async sseResponse(stream: StreamRef, options: SseOptions = {}): Promise<Response> {
    return this.#answer(stream, options);
  }

  /** The same, with a place of the user held for as long: 429 with `Retry-After` when all are taken. */
  async sseResponseWithLease(stream: StreamRef, userId: string, options: SseOptions = {}): Promise<Response> {
    this.channelOf(stream);
    const lease = await this.#lease(userId, options.tenant);
    return lease instanceof Response ? lease : this.#answer(stream, options, lease);
  }

  /**
   * What a source yields, straight to the browser: texts and other JSON as `data`, `{ type, data }` under that type (unless it is
   * one of the hub's), then `done`. Leaving ends the source, unless it is recorded. Throws `invalid-argument` for what is no source.
   */
  async directSseResponse(source: AsyncIterable<unknown>, options: DirectSseOptions = {}): Promise<Response> {
    const { userId, useLease = userId !== undefined, record, rollUpMs = record ? 40 : 0 } = options;
    if (typeof (source as Partial<typeof source> | undefined)?.[Symbol.asyncIterator] !== 'function')
      throw new HubError('invalid-argument', 'directSseResponse needs an async iterable: something that yields');
    if (useLease && userId === undefined)
      throw new HubError('invalid-argument', 'useLease needs userId: whose place is it');
    const lease = useLease ? await this.#lease(userId!, options.tenant) : undefined;
    if (lease instanceof Response) {
      letGoOf(source);
      return lease;
    }
    if (record) {
      void recordAll(source, record, rollUpMs);
      return this.#answer(record, options, lease);
    }
    const items = rollUp(source, { windowMs: rollUpMs, clock: this.#clock });
    return this.#response(directFrames(items, this.#channel.retryMs), options, lease);
  }

  /** Ends all answers, and lets go of what was opened. */
  close(): Promise<void> {
    this.#stop.abort();
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #lease(userId: string, tenant: string | undefined): Promise<Lease | Response> {
    if (!this.leases) throw new HubError('unavailable', 'no leases here: initStreaming was told of none');
    try {
      return await this.leases.acquire(userId, { tenant });
    } catch (error) {
      const problem = problemOf(error);
      const headers = { ...problemHeaders(problem), 'content-type': problemType };
      return new Response(JSON.stringify(problem), { status: problem.status, headers });
    }
  }

  async #answer(stream: StreamRef, options: SseOptions, lease?: Lease): Promise<Response> {
    try {
      if (!this.#log)
        throw new HubError(
          'unavailable',
          'this process keeps no events: it can write to streams, and not answer with them',
        );
      const tenant = options.tenant ?? (stream instanceof StreamContext ? stream.tenant : defaultTenant);
      const key = channelKey(tenant, this.channelOf(stream));
      const lastEventId = options.lastEventId || undefined;
      if (lastEventId !== undefined && (await hasSeenEnd(this.#log, key, lastEventId))) {
        await lease?.release();
        return new Response(null, { status: 204, headers: { 'cache-control': 'no-store' } });
      }
      const retryMs = options.retryMs ?? this.#channel.retryMs;
      return this.#response(channelFrames(this.#log, key, lastEventId ?? 'start', retryMs), options, lease);
    } catch (error) {
      await lease?.release();
      throw error;
    }
  }

  #response(frames: AsyncIterator<Uint8Array>, options: SseOptions, lease: Lease | undefined): Response {
    const { pingMs = this.#channel.pingMs, idleLimitMs = this.#channel.idleLimitMs, headers = {} } = options;
    const signals = [this.#stop.signal, options.signal, lease?.signal].filter((each) => each !== undefined);
    const body = sseBody(frames, {
      pingMs,
      idleLimitMs,
      clock: this.#clock,
      signal: AbortSignal.any(signals),
      lastFrame: lease && hubFrame('hub.lease-lost', {}),
      onEnd: () => void lease?.release(),
    });
    return new Response(body, { headers: { ...streamHeaders, ...headers } });
  }
}

async function recordAll(source: AsyncIterable<unknown>, record: StreamContext, rollUpMs: number): Promise<void> {
  try {
    await record.pipe(source, { rollUpMs });
    await record.complete(true);
  } catch (error) {
    // Who watches hears of it; where that cannot be told either, the stream is left without an end.
    if (!record.isClosed) await record.complete(false, (error as Error).message).catch(() => undefined);
  }
}

function channelFrames(log: EventLog, key: string, from: string, retryMs: number): AsyncIterator<Uint8Array> {
  const stop = new AbortController();
  const watching = watchEvents(log, { channels: [key], from, signal: stop.signal });
  async function* frames(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`retry: ${retryMs}\n: signalbox\n\n`);
    for await (const { event, cursor } of watching) {
      if (event instanceof GapNotice) yield gapFrame(key, event.gap);
      else {
        yield Buffer.concat([Buffer.from(idLine(cursor)), frameOf(event)]);
        if (event.type === 'done') return;
      }
    }
  }
  const iterator = frames();
  return {
    next: () => iterator.next(),
    // A generator's own `return` would wait for what it waits for.
    return() {
      stop.abort();
      return iterator.return(undefined);
    },
  };
}

async function* directFrames(items: AsyncIterable<unknown>, retryMs: number): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`retry: ${retryMs}\n: signalbox\n\n`);
  try {
    for await (const item of items) {
      const { type, data } = isTyped(item) ? item : { type: 'data', data: item };
      yield encodeFrame(type === 'error' ? 'stream.error' : type, JSON.stringify({ type, data }));
    }
    yield encodeFrame('done', JSON.stringify({ type: 'done', data: { success: true } }));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    yield encodeFrame('done', JSON.stringify({ type: 'done', data: { success: false, error: message } }));
  }
}

function isTyped(item: unknown): item is { type: string; data: unknown } {
  if (typeof item !== 'object' || item === null || !('data' in item) || !('type' in item)) return false;
  return typeof item.type === 'string' && isOwnEventType(item.type);
}

/** Nobody will read it: whatever it says about that is nobody's concern. */
function letGoOf(source: AsyncIterable<unknown>): void {
  Promise.resolve(source[Symbol.asyncIterator]().return?.()).catch(() => undefined);
}

function channelOptions({
  prefix = 'stream:',
  pingMs = 15_000,
  idleLimitMs = 300_000,
  retryMs = 2000,
}: ChannelOptions) {
  checkChannelName(prefix);
  const refuse = (name: string, ms: number, least: string): never => {
    throw new HubError('invalid-argument', `channel.${name} is ${ms}, it has to be ${least} ms`);
  };
  if (!(pingMs > 0)) refuse('pingMs', pingMs, 'more than 0');
  if (!(idleLimitMs >= 0)) refuse('idleLimitMs', idleLimitMs, '0 (never) or more');
  if (!(retryMs >= 0)) refuse('retryMs', retryMs, 'at least 0');
  return { prefix, pingMs, idleLimitMs, retryMs };
}

/** Whether nothing comes after the cursor because the stream had its end there. */
async function hasSeenEnd(log: EventLog, key: string, cursor: string): Promise<boolean> {
  const known = decodeCursor(cursor, [key]);
  const position = known.kind === 'positions' ? known.positions[0] : undefined;
  if (!position || position.epoch === 0) return false;
  const { events } = await log.read(key, position, 1);
  if (events.length > 0) return false;
  const end = await findEvent(log, key, ({ type }) => type === 'done');
  return end !== undefined && !isBefore(position, end);
}
