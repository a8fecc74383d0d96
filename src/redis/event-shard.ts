import { HubError } from '../errors.ts';
import type { Position } from '../events/event-log.ts';
import { ChannelInterest } from './channel-interest.ts';
import type { Argument, RedisConnection, Script } from './connection.ts';
import { appendScript } from './event-scripts.ts';

/** One step of a batch. */
export interface Step {
  /** `event`, `opening`: one of those that an empty channel begins with; without a type a hole. `closing`: the end
   *  of a command, if nothing has come since its producer's number, and behind a hole if its producer has an id. `hole`:
   *  something is missing here. `skip`: something was not kept, as nobody wanted it. */
  readonly kind: 'event' | 'opening' | 'closing' | 'hole' | 'skip';
  readonly channel: string;
  readonly type?: string;
  readonly at?: number;
  readonly data?: string;
  readonly producer?: { readonly id: string; readonly seq: number } | undefined;
  readonly settle?: (error?: HubError) => void;
}

/** What all shards of a log have in common. */
export interface ShardHost {
  readonly connection: RedisConnection;
  /** Of this log alone, among all that ever write. */
  readonly writer: string;
  readonly wakes: string;
  readonly maxChannels: number;
  readonly appendLimits: readonly number[];
  readonly replicas: number;
  /** For calls that wait for replicas, which holds up a connection. */
  readonly writing: RedisConnection;
  readonly maxWaitingSteps: number;
  readonly maxWaitingBytes: number;
  readonly epoch: () => number;
  /** Redis knows of a newer epoch. */
  readonly onEpoch: (epoch: number) => void;
  /** What was kept is gone. */
  readonly onEmptied: () => Promise<void>;
  readonly onReached: (channel: string, position: Position) => void;
  readonly onFailed: (error: HubError) => void;
}

export interface ShardAnswer {
  readonly epoch: number;
  /** The server's ms. */
  readonly now: number;
  readonly rest: readonly unknown[];
}

const marks = { event: 'e', opening: 'o', closing: 'c', hole: 'h', skip: 's' } as const;
const batchSteps = 500;
const batchBytes = 1024 * 1024;
/** Channels in which something was lost, remembered until that can be told. */
const maxHoles = 100_000;

/**
 * One shard of the log, seen from one node: what waits to be appended goes there in batches, one at a time, so that the
 * order is kept; a batch has a number, so that one that is sent twice is kept once.
 */
export class EventShard {
  readonly index: number;
  readonly interest = new ChannelInterest();
  /** Since when new interest is to be told; 0: all of it. Server's ms. */
  heardUntil = 0;
  /** Monotonic ms of the last sweep that went well. */
  sweptAt = 0;
  /** Channels that pruning leaves out for now. */
  pruneOffset = 0;
  readonly #host: ShardHost;
  readonly #key: string;
  /** The epoch in which this shard was last seen; 0: it was not. */
  #seenIn = 0;
  #batch = 0;
  #waiting: Step[] = [];
  #waitingBytes = 0;
  #isRunning = false;
  #pushed = 0;
  #tried = 0;
  readonly #flushes: { readonly upTo: number; readonly resolve: () => void }[] = [];
  /** More was lost than can be told one by one. */
  #mustRestart = false;
  readonly #holes = new Set<string>();
  /** The server's time at a monotonic time of ours: at least so much. */
  #serverTime = { at: 0, is: 0 };

  constructor(index: number, prefix: string, host: ShardHost) {
    this.index = index;
    this.#key = `${prefix}ev:shard`;
    this.#host = host;
  }

  /** The server's clock, late rather than early; 0 before its first word. */
  get serverNow(): number {
    const { is, at } = this.#serverTime;
    return is === 0 ? 0 : is + this.#host.connection.settings.clock.monotonic() - at;
  }

  /** Why an event would be refused now. */
  get refusal(): HubError | undefined {
    const { maxWaitingSteps, maxWaitingBytes } = this.#host;
    if (this.#waiting.length < maxWaitingSteps && this.#waitingBytes < maxWaitingBytes) return undefined;
    return new HubError('unavailable', `${this.#waiting.length} events wait for Redis, no more are taken`, {
      retryAfterMs: 1000,
    });
  }

  /** Puts a step into the next batch. What comes in one turn of the event loop goes together. */
  push(step: Step): void {
    if (step.kind !== 'skip' && step.kind !== 'hole' && this.interest.isHoleBefore(step.channel))
      this.push({ kind: 'skip', channel: step.channel });
    if (step.kind === 'skip') {
      const untold = this.interest.takeUntold();
      if (untold !== undefined) this.push({ kind: 'skip', channel: untold });
    }
    this.#waiting.push(step);
    this.#waitingBytes += 200 + (step.data?.length ?? 0);
    this.#pushed++;
    this.#run();
  }

  get isIdle(): boolean {
    return this.#tried === this.#pushed;
  }

  /** Something in a channel is lost; its readers are told as soon as that is possible. */
  lost(channel: string): void {
    if (this.#holes.size < maxHoles) {
      this.#holes.add(channel);
      return;
    }
    // A new epoch tells it of all channels at once.
    this.#holes.clear();
    this.#mustRestart = true;
  }

  /** Tells what was lost, where that was not possible before. */
  tellLost(): void {
    if (this.#holes.size > 0 || this.#mustRestart) this.#run();
  }

  /** Resolves when everything pushed until now was tried. */
  flushed(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#flushes.push({ upTo: this.#pushed, resolve }));
  }

  /** Makes an atomic call on the shard. */
  async call(script: Script, args: readonly Argument[], replicas = 0): Promise<ShardAnswer> {
    const { wakes, maxChannels, epoch } = this.#host;
    const connection = replicas > 0 ? this.#host.writing : this.#host.connection;
    for (let tries = 3; tries > 0; tries--) {
      const askedAt = connection.settings.clock.monotonic();
      const all = [epoch(), this.#seenIn > 0 ? '1' : '0', wakes, maxChannels, ...args];
      const [word, known, now, ...rest] = (await connection.run(script, [this.#key], all, { replicas })) as [
        Buffer,
        number,
        number,
        ...unknown[],
      ];
      if (String(word) === 'ok') {
        this.#seenIn = known;
        this.#serverTime = { at: askedAt, is: now };
        this.#host.onEpoch(known);
        return { epoch: known, now, rest };
      }
      // Where a new epoch has begun since, somebody else has seen that it is gone.
      if (epoch() <= this.#seenIn) await this.#host.onEmptied();
      this.#seenIn = 0;
      this.interest.clear();
      this.heardUntil = 0;
    }
    throw new HubError('unavailable', 'what Redis keeps goes away again and again', { retryAfterMs: 1000 });
  }

  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    setImmediate(() => void this.#drain());
  }

  async #drain(): Promise<void> {
    do {
      const steps = this.#takeBatch();
      const upTo = this.#pushed - this.#waiting.length;
      try {
        if (this.#mustRestart) await this.#host.onEmptied();
        this.#mustRestart = false;
        await this.#append(steps);
      } catch (thrown) {
        const error = thrown instanceof HubError ? thrown : new HubError('internal', String(thrown), { cause: thrown });
        for (const { kind, channel, settle } of steps) {
          if (kind === 'skip') this.interest.doubt(channel);
          this.lost(channel);
          settle?.(error);
        }
        this.#host.onFailed(error);
      }
      this.#tried = upTo;
      if (this.#tellFlushed()) await new Promise((resolve) => setImmediate(resolve));
    } while (this.#waiting.length > 0);
    this.#isRunning = false;
  }

  /** Who waits for what was pushed before it looks gets the time to look, before the next batch goes. */
  #tellFlushed(): boolean {
    const count = this.#flushes.findLastIndex(({ upTo }) => upTo <= this.#tried) + 1;
    for (const { resolve } of this.#flushes.splice(0, count)) resolve();
    return count > 0;
  }

  #takeBatch(): Step[] {
    const steps: Step[] = [...this.#holes].slice(0, batchSteps).map((channel) => ({ kind: 'hole', channel }));
    for (const { channel } of steps) this.#holes.delete(channel);
    let bytes = 0;
    let count = 0;
    const most = Math.min(batchSteps, (this.#flushes[0]?.upTo ?? Number.POSITIVE_INFINITY) - this.#tried);
    for (const step of this.#waiting) {
      if (count >= most || bytes > batchBytes) break;
      count++;
      bytes += step.data?.length ?? 0;
    }
    const taken = this.#waiting.splice(0, count);
    for (const { data } of taken) this.#waitingBytes -= 200 + (data?.length ?? 0);
    return steps.concat(taken);
  }

  async #append(steps: readonly Step[]): Promise<void> {
    if (steps.length === 0) return;
    const { writer, appendLimits, replicas, onReached } = this.#host;
    const args: Argument[] = [writer, ++this.#batch, ...appendLimits];
    for (const { kind, channel, type = '', at = 0, data = '', producer } of steps)
      args.push(marks[kind], channel, type, String(at), data, producer?.id ?? '', producer?.seq ?? 0);
    const mustReplicate = replicas > 0 && steps.some(({ settle }) => settle);
    const { epoch, rest } = await this.call(appendScript, args, mustReplicate ? replicas : 0);
    for (let i = 0; i < rest.length; i += 2) onReached(String(rest[i]), { epoch, seq: rest[i + 1] as number });
    for (const { settle } of steps) settle?.();
  }
}
