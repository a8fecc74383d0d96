import { type HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { pruneScript, sweepScript } from './event-scripts.ts';
import type { EventShard } from './event-shard.ts';
import type { WatchedChannel } from './watched-channel.ts';

export interface EventSweepOptions {
  readonly clock: Clock;
  readonly shards: readonly EventShard[];
  readonly everyMs: number;
  readonly interestMs: number;
  readonly maxEventAgeMs: number;
  readonly maxCommandAgeMs: number;
  /** The channels that are watched here. */
  readonly watched: () => Iterable<WatchedChannel>;
  readonly shardOf: (channel: string) => EventShard;
  readonly onWanted: (shard: EventShard, channel: string, since: number) => void;
  readonly onFailed: (error: HubError) => void;
}

/** Every so many sweeps all interest of a shard is read anew. */
const fullEvery = 32;
/** Quiet channels looked at in one sweep. */
const pruneSlice = 200;

/**
 * Looks regularly for what no wake-up has told: what is new in the channels watched here, and which ones are watched
 * elsewhere. Says that the watched ones still are, and forgets channels that nobody needs any more.
 */
export class EventSweep {
  readonly #options: EventSweepOptions;
  #count = 0;
  #running: Promise<void> | undefined;
  #stopTimer: () => void = () => undefined;
  #isStopped = false;

  constructor(options: EventSweepOptions) {
    this.#options = options;
  }

  /** Learns all interest, then goes on regularly. Throws when that fails. */
  async first(): Promise<void> {
    await Promise.all(this.#options.shards.map((shard) => this.#look(shard, [])));
    this.#later();
  }

  /** Looks at once; joins a sweep that is under way. Never throws. */
  now(): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    this.#running ??= this.#all().finally(() => {
      this.#running = undefined;
      this.#later();
    });
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#stopTimer();
    await this.#running;
  }

  #later(): void {
    this.#stopTimer();
    if (this.#isStopped) return;
    this.#stopTimer = this.#options.clock.after(this.#options.everyMs, () => void this.now());
  }

  async #all(): Promise<void> {
    const { shards, shardOf, watched, onFailed } = this.#options;
    this.#count++;
    const byShard = new Map<EventShard, WatchedChannel[]>();
    for (const each of watched()) {
      const shard = shardOf(each.key);
      const others = byShard.get(shard);
      if (others) others.push(each);
      else byShard.set(shard, [each]);
    }
    const work = shards.map((shard) => this.#look(shard, byShard.get(shard) ?? []));
    work.push(this.#prune(shards[this.#count % shards.length]!));
    const failed = (await Promise.allSettled(work)).find((each) => each.status === 'rejected');
    if (failed) onFailed(toHubError(failed.reason));
  }

  async #look(shard: EventShard, watched: readonly WatchedChannel[]): Promise<void> {
    const { clock, interestMs, onWanted } = this.#options;
    const isFull = shard.heardUntil === 0 || (this.#count + shard.index) % fullEvery === 0;
    const args = [isFull ? 0 : shard.heardUntil, interestMs, ...watched.map(({ key }) => key)];
    const { epoch, now, rest } = await shard.call(sweepScript, args);
    const [fresh, lasts] = rest as [Buffer[], number[]];
    // Interest may have come and gone unheard.
    if (clock.monotonic() - shard.sweptAt > interestMs / 2) shard.interest.doubtAll();
    shard.sweptAt = clock.monotonic();
    shard.heardUntil = now;
    const wanted = new Map<string, number>();
    for (let i = 0; i < fresh.length; i += 2) wanted.set(String(fresh[i]), Number(fresh[i + 1]));
    if (isFull) shard.interest.replace(wanted);
    for (const [channel, since] of wanted) onWanted(shard, channel, since);
    for (const [i, each] of watched.entries()) {
      // Where nothing has ever happened there is nothing to wake for, whoever is just looking, too.
      if (lasts[i] === 0) each.found({ epoch, seq: 0 });
      else each.reached({ epoch, seq: lasts[i]! });
    }
    shard.tellLost();
  }

  async #prune(shard: EventShard): Promise<void> {
    const { maxCommandAgeMs, maxEventAgeMs } = this.#options;
    const args = [maxCommandAgeMs, maxEventAgeMs, pruneSlice, shard.pruneOffset];
    const [looked, gone] = (await shard.call(pruneScript, args)).rest as [number, number];
    shard.pruneOffset = looked < pruneSlice ? 0 : shard.pruneOffset + looked - gone;
  }
}
