import { Backoff } from './backoff.ts';
import { browserClock, type WatchClock } from './clock.ts';
import { openEventStream } from './event-stream.ts';
import { Positions } from './position.ts';
import { HubProblem, networkProblem } from './problem.ts';
import { type SseMessage, SseParser } from './sse-parser.ts';
import type { EventsOptions, HubEvent, WatchItem, WatchState } from './watch-types.ts';

/**
 * Watches an event stream of the gateway over any number of connections: what it gives is every event once and in
 * order, or a `gap` or `reset` that says what is missing. To be iterated once; it reads no faster than it is iterated.
 */
export class EventWatcher implements AsyncIterable<WatchItem> {
  readonly #options: Omit<EventsOptions, 'channels'>;
  readonly #path: string;
  readonly #clock: WatchClock;
  readonly #random: () => number;
  readonly #backoff: Backoff;
  readonly #positions = new Positions();
  readonly #stop = new AbortController();
  #state: WatchState = { kind: 'connecting' };
  #cursor: string | undefined;
  #token: string | undefined;
  #refused: HubProblem | undefined;
  #drainMs: number | undefined;
  #isIterated = false;

  /** `path` of the stream at the gateway: `/v1/events?channel=fleet`. */
  constructor(path: string, options: Omit<EventsOptions, 'channels'> = {}) {
    const { watchdogMs = 45_000, random = Math.random, clock = browserClock } = options;
    if (!(watchdogMs > 0)) throw new RangeError(`watchdogMs is ${watchdogMs}; it has to be above 0`);
    this.#options = { ...options, watchdogMs };
    this.#path = path;
    this.#clock = clock;
    this.#random = random;
    this.#backoff = new Backoff(options.backoff, random);
    this.#cursor = options.cursor;
  }

  /** Where to go on after what was given out last; undefined before the first word from the hub. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  get state(): WatchState {
    return this.#state;
  }

  /** Ends the watching; the iteration ends without an error. */
  close(): void {
    this.#stop.abort();
  }

  /** Throws the `HubProblem` that makes going on pointless: a refused token, no permission, a wrong address. */
  [Symbol.asyncIterator](): AsyncIterator<WatchItem, void> {
    if (this.#isIterated) throw new TypeError('an event watcher can be iterated once');
    this.#isIterated = true;
    const items = this.#run();
    return {
      next: () => items.next(),
      // A generator's own return() would wait for the next event.
      return: () => {
        this.close();
        return items.return();
      },
    };
  }

  async *#run(): AsyncGenerator<WatchItem, void> {
    const { signal } = this.#options;
    const close = () => this.close();
    signal?.addEventListener('abort', close, { once: true });
    if (signal?.aborted) close();
    try {
      while (!this.#stop.signal.aborted) {
        let problem: HubProblem;
        try {
          if (yield* this.#connection()) return this.#become({ kind: 'closed', reason: 'finished' });
          problem = new HubProblem('the hub ended the stream', { code: 'network', status: 0 });
        } catch (error) {
          if (this.#stop.signal.aborted) break;
          problem = networkProblem(error);
          if (!this.#maySucceedLater(problem)) {
            this.#become({ kind: 'closed', reason: 'failed', problem });
            throw problem;
          }
        }
        await this.#pause(problem);
      }
    } finally {
      signal?.removeEventListener('abort', close);
      this.#stop.abort();
      if (this.#state.kind !== 'closed') this.#become({ kind: 'closed', reason: 'closed' });
    }
  }

  /** One connection, from its request to its end. True: there is nothing more to come. */
  async *#connection(): AsyncGenerator<WatchItem, boolean> {
    const { url = '', watchdogMs = 0, fetch: send = fetch } = this.#options;
    const headers = new Headers({ accept: 'text/event-stream' });
    if (this.#cursor !== undefined) headers.set('last-event-id', this.#cursor);
    const token = await this.#nextToken();
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);

    const stream = await openEventStream({
      url: `${url.replace(/\/$/, '')}${this.#path}`,
      headers,
      fetch: send,
      signal: this.#stop.signal,
      watchdogMs,
      clock: this.#clock,
    });
    this.#refused = undefined;
    if (stream === undefined) return true;
    this.#become({ kind: 'live' });

    const parser = new SseParser({ onRetry: (ms) => this.#backoff.hint(ms) });
    let chunks = 0;
    for await (const chunk of stream) {
      // The opening proves little: a hub that falls over after it must not be asked ever again without a pause.
      chunks += 1;
      if (chunks === 2) this.#backoff.reset();
      for (const message of this.#parse(parser, chunk)) {
        const item = this.#take(message);
        if (message.id !== '') this.#cursor = message.id;
        if (item !== undefined) yield item;
        if (this.#stop.signal.aborted) return false;
      }
    }
    return false;
  }

  #parse(parser: SseParser, chunk: Uint8Array): SseMessage[] {
    try {
      return parser.feed(chunk);
    } catch (error) {
      throw invalidAnswer(error instanceof Error ? error.message : String(error), error);
    }
  }

  /** The item that a message is; undefined for what is told a second time, and for what is meant for us. */
  #take(message: SseMessage): WatchItem | undefined {
    if (message.data === undefined) return undefined;
    const body = parseObject(message.data);
    switch (message.event) {
      case 'hub.gap': {
        const gap = {
          channel: text(body.channel),
          epoch: whole(body.epoch),
          from: whole(body.from),
          to: whole(body.to),
        };
        return { kind: 'gap', gap };
      }
      case 'hub.reset': {
        const channel = typeof body.channel === 'string' ? body.channel : undefined;
        this.#positions.forget(channel);
        return { kind: 'reset', reset: { channel, reason: text(body.reason) } };
      }
      case 'hub.drain':
        // Spread already: nothing is added to it.
        this.#drainMs = whole(body.reconnectAfterMs) + this.#random() * whole(body.spreadMs);
        return undefined;
      default:
        if (message.event.startsWith('hub.')) return undefined; // of a newer hub
        return this.#event(body, message.id);
    }
  }

  #event(body: Record<string, unknown>, cursor: string): WatchItem | undefined {
    const { channel, type, at, data } = body;
    if (typeof channel !== 'string' || typeof type !== 'string')
      throw invalidAnswer(`an event lacks its channel or type: ${JSON.stringify(body).slice(0, 200)}`);
    const place = { epoch: whole(body.epoch), seq: whole(body.seq) };
    // Without a number: what a hub says from its records, once and last.
    if (place.seq > 0 && !this.#positions.advance(channel, place)) return undefined;
    const event: HubEvent = { channel, ...place, type, at: text(at), data, cursor };
    return { kind: 'event', event };
  }

  async #nextToken(): Promise<string | undefined> {
    const { getToken } = this.#options;
    if (getToken === undefined) return undefined;
    const refused = this.#refused;
    const token = await unlessAborted(this.#stop.signal, getToken({ refused, refusedToken: refused && this.#token }));
    if (refused !== undefined && token === this.#token) throw refused;
    this.#token = token;
    return token;
  }

  #maySucceedLater(problem: HubProblem): boolean {
    if (problem.code === 'invalid-answer') return false;
    if (problem.status === 401) {
      // The second refusal of the same token comes from `#nextToken`.
      if (this.#options.getToken === undefined || problem === this.#refused) return false;
      this.#refused = problem;
      return true;
    }
    return problem.status === 0 || problem.status === 408 || problem.status === 429 || problem.status >= 500;
  }

  async #pause(problem: HubProblem): Promise<void> {
    const inMs = this.#drainMs ?? (problem.retryAfterMs ?? 0) + this.#backoff.next();
    this.#drainMs = undefined;
    this.#become({ kind: 'reconnecting', inMs, problem });
    const stop = this.#stop.signal;
    if (stop.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        stop.removeEventListener('abort', done);
        release();
        resolve();
      };
      const release = this.#clock.after(inMs, done);
      stop.addEventListener('abort', done, { once: true });
    });
  }

  #become(state: WatchState): void {
    this.#state = state;
    this.#options.onState?.(state);
  }
}

/** Waits for what may take as long as a person takes, but not longer than the signal allows. */
async function unlessAborted<T>(signal: AbortSignal, value: T | Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([value, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function invalidAnswer(message: string, cause?: unknown): HubProblem {
  return new HubProblem(`the hub sent what cannot be read: ${message}`, { code: 'invalid-answer', status: 200, cause });
}

function parseObject(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw invalidAnswer(`${JSON.stringify(json.slice(0, 200))} is not JSON`, error);
  }
  throw invalidAnswer(`${json.slice(0, 200)} is not an object`);
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const whole = (value: unknown): number => (typeof value === 'number' && value >= 0 ? Math.floor(value) : 0);
