import { HubError } from '../../errors.ts';
import { channelName } from '../../events/channels.ts';
import { cursorChannels, decodeCursor } from '../../events/cursor.ts';
import type { EventLog, LogEvent, Position } from '../../events/event-log.ts';
import type { Clock } from '../../flow/clock.ts';
import type { Lease } from '../../leases/index.ts';
import type { GatewayFact } from '../facts.ts';
import { Audience } from './audience.ts';
import { Batch } from './batch.ts';
import { FanOut } from './fan-out.ts';
import { gapFrame, hubFrame, keepaliveFrame, openingFrame } from './frame.ts';
import type { Wire } from './sink.ts';
import { StreamLimits } from './stream-limits.ts';
import { type StreamEnd, Watcher } from './watcher.ts';

export interface StreamsOptions {
  readonly log: EventLog;
  readonly clock: Clock;
  readonly random: () => number;
  readonly observe: (fact: GatewayFact) => void;
  readonly rewrite?: ((event: LogEvent) => string) | undefined;
  readonly maxStreams: number;
  readonly maxStreamsPerSubject: number;
  readonly bufferBytes: number;
  readonly stallMs: number;
  readonly keepaliveMs: number;
  readonly retryMs: number;
}

/** What a stream is to carry. */
export interface StreamRequest {
  readonly subject: string;
  /** Unix ms at which the credential ends, and the stream with it. */
  readonly expiresAtMs: number | undefined;
  readonly keys: readonly string[];
  /** Where to go on, as the browser gave it back. Undefined: see `fromStart`. */
  readonly cursor: string | undefined;
  /** Without a cursor: first all that is still kept, instead of only what happens from now on. */
  readonly fromStart: boolean;
  /** Tells the last event of a stream that ends by itself. */
  readonly isLast?: ((event: LogEvent) => boolean) | undefined;
  readonly idleLimitMs?: number | undefined;
  /** A frame to end with at once, when nothing will come through the log. */
  readonly closing?: Buffer | undefined;
}

/** A stream that has its place and its positions, and is not answered yet. */
export interface PreparedStream {
  readonly positions: readonly Position[];
  /** Begins the answer, and sends everything after that. `lease` is released with the stream, and ends it when it is lost. */
  start(wire: Wire, lease?: Lease): void;
  /** Gives the place back; to be called unless `start` was. */
  release(): void;
}

/** All open event streams of a gateway. One timer serves them all. */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #fanOut: FanOut;
  readonly #limits: StreamLimits;
  readonly #watchers = new Set<Watcher>();
  readonly #audiences = new Map<string, Audience>();
  readonly #keepalive = new Batch([keepaliveFrame]);
  readonly #tickMs: number;
  #letGo: (() => void) | undefined;
  #isDraining = false;
  #whenEmpty: (() => void)[] = [];

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.#limits = new StreamLimits(options.maxStreams, options.maxStreamsPerSubject);
    this.#tickMs = Math.max(20, Math.min(1_000, options.keepaliveMs / 4, options.stallMs / 4));
    this.#fanOut = new FanOut({
      ...options,
      onFinished: (watcher) => this.#finish(watcher, 'finished'),
      onReadFailed: (key, error, watchers) => {
        options.observe({ kind: 'event-log-failed', channel: channelName(key), error });
        for (const watcher of watchers) this.#cut(watcher, 'log-failed');
      },
    });
  }

  get open(): number {
    return this.#watchers.size;
  }

  /**
   * Takes a place for a stream and finds out where it begins. Wake-ups are heard before the position is read, so
   * nothing falls between. Throws `resource-exhausted` at the limits and `unavailable` while draining.
   */
  async prepare(request: StreamRequest): Promise<PreparedStream> {
    if (this.#isDraining)
      throw new HubError('unavailable', 'this gateway is closing', { retryAfterMs: this.#options.retryMs });
    const { subject, expiresAtMs, isLast, idleLimitMs = 0 } = request;
    this.#limits.take(subject);
    const audience = this.#join(request.keys);
    const { keys } = audience;
    const watcher = new Watcher({ subject, expiresAtMs, idleLimitMs, isLast, audience });
    const places = keys.map((key) => this.#fanOut.add(watcher, key));
    watcher.places = places;
    let isReleased = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      this.#fanOut.remove(places);
      this.#limits.give(subject);
      audience.watchers--;
      if (audience.watchers === 0) this.#audiences.delete(audience.name);
    };
    try {
      const known = request.cursor === undefined ? undefined : decodeCursor(request.cursor, keys);
      for (const [i, place] of places.entries()) {
        if (known?.kind === 'positions') place.at = known.positions[i]!;
        else if (known === undefined && !request.fromStart) place.at = await this.#options.log.end(place.feed.key);
      }
      // Nobody knows what was missed: say so, and give all that is kept.
      const isUnreadable = known !== undefined && known.kind !== 'positions';
      return {
        positions: places.map(({ at }) => at),
        release,
        start: (wire, lease) => {
          this.#start(watcher, wire, isUnreadable, () => {
            release();
            void lease?.release();
          });
          if (lease !== undefined) this.#endWith(watcher, lease);
          if (request.closing !== undefined && watcher.sink !== undefined)
            this.#finish(watcher, 'finished', request.closing);
        },
      };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Tells all watchers to come back, spread over a time, and ends their streams. Resolves when all are closed. */
  drain({ reconnectAfterMs, spreadMs }: { reconnectAfterMs: number; spreadMs: number }): Promise<void> {
    this.#isDraining = true;
    for (const watcher of this.#watchers) {
      const afterMs = Math.round(reconnectAfterMs + this.#options.random() * spreadMs);
      this.#finish(watcher, 'draining', hubFrame('hub.drain', { reconnectAfterMs: afterMs, spreadMs: 0 }, afterMs));
    }
    if (this.#watchers.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenEmpty.push(resolve));
  }

  /** Cuts what is still open. */
  close(): void {
    this.#isDraining = true;
    for (const watcher of this.#watchers) this.#cut(watcher, 'closed-by-gateway');
    this.#letGo?.();
  }

  /** A stream without its place must end; its browser comes back for another one. */
  #endWith(watcher: Watcher, { signal }: Lease): void {
    if (!this.#watchers.has(watcher)) return;
    const onLost = () => this.#finish(watcher, 'lease-lost', hubFrame('hub.lease-lost', {}));
    if (signal.aborted) onLost();
    else signal.addEventListener('abort', onLost, { once: true });
  }

  #join(keys: readonly string[]): Audience {
    const ordered = cursorChannels(keys);
    const name = ordered.join('\n');
    let audience = this.#audiences.get(name);
    if (audience === undefined) {
      audience = new Audience(name, ordered);
      this.#audiences.set(name, audience);
    }
    audience.watchers++;
    return audience;
  }

  #start(watcher: Watcher, wire: Wire, isUnreadable: boolean, release: () => void): void {
    const { clock, observe, retryMs } = this.#options;
    const nowMs = clock.monotonic();
    const sink = wire.open({
      onDrain: () => {
        if (watcher.endedBy === undefined) this.#fanOut.unpark(watcher);
      },
      onClosed: () => {
        this.#watchers.delete(watcher);
        release();
        observe({
          kind: 'stream-closed',
          subject: watcher.subject,
          channels: watcher.places.length,
          reason: watcher.endedBy ?? 'left',
          openMs: clock.monotonic() - nowMs,
          open: this.#watchers.size,
        });
        if (this.#watchers.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve();
      },
    });
    // The browser may have left while the position was read.
    if (sink === undefined) {
      release();
      return;
    }
    watcher.open(sink, nowMs);
    this.#watchers.add(watcher);
    this.#letGo ??= clock.after(this.#tickMs, this.#tick);
    const opening: Buffer[] = [openingFrame(retryMs, watcher.cursor())];
    if (isUnreadable)
      for (const { feed } of watcher.places)
        opening.push(gapFrame(feed.key, { kind: 'reset', reason: 'unknown-position' }));
    this.#fanOut.write(watcher, new Batch(opening), nowMs);
    observe({ kind: 'stream-opened', subject: watcher.subject, channels: watcher.places.length, open: this.open });
    if (!watcher.isParked) this.#fanOut.start(watcher);
  }

  readonly #tick = (): void => {
    const { clock, stallMs, keepaliveMs } = this.#options;
    const nowMs = clock.monotonic();
    const wallMs = clock.now();
    for (const watcher of this.#watchers) {
      if (watcher.isStalled(nowMs, stallMs)) this.#cut(watcher, 'stalled');
      else if (watcher.endedBy !== undefined) continue;
      else if (wallMs >= watcher.expiresAtMs) this.#finish(watcher, 'expired', hubFrame('hub.expired', {}));
      else if (watcher.idleLimitMs > 0 && nowMs - watcher.lastEventMs >= watcher.idleLimitMs)
        this.#finish(watcher, 'idle', hubFrame('hub.idle', { idleLimitMs: watcher.idleLimitMs }));
      else if (!watcher.isParked && nowMs - watcher.lastWriteMs >= keepaliveMs)
        this.#fanOut.write(watcher, this.#keepalive, nowMs);
    }
    this.#letGo = this.#watchers.size === 0 ? undefined : clock.after(this.#tickMs, this.#tick);
  };

  /** Ends a stream cleanly. If the other end does not take the rest, the stall deadline cuts it. */
  #finish(watcher: Watcher, reason: StreamEnd, frame?: Buffer): void {
    if (watcher.endedBy !== undefined) return;
    watcher.endedBy = reason;
    this.#fanOut.stop(watcher);
    if (frame !== undefined) watcher.write(new Batch([frame]), this.#options.clock.monotonic());
    watcher.sink.end();
  }

  #cut(watcher: Watcher, reason: StreamEnd): void {
    watcher.endedBy ??= reason;
    this.#fanOut.stop(watcher);
    watcher.sink.destroy();
  }
}
