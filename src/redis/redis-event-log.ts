import { HubError, toHubError } from '../errors.ts';
import type { EventLog, EventPage, NewEvent, Position } from '../events/event-log.ts';
import { EventTail, type EventTailOptions } from '../events/event-tail.ts';
import { dataJson, readableJson } from '../events/kept-event.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { RedisConnection } from './connection.ts';
import { eventsOf, type Look, pageOf } from './event-pages.ts';
import { epochScript, lookScript, pruneScript, sweepScript } from './event-scripts.ts';
import { EventShard } from './event-shard.ts';
import { shardOf, shardPrefix, shards as standardShards } from './keys.ts';
import type { RedisSubscriber } from './subscriber.ts';
import { WatchedChannel } from './watched-channel.ts';

export interface RedisEventLogOptions {
  /** Stays its owner's. */
  readonly connection: RedisConnection;
  /** Brings wake-ups; without them all is seen with the next sweep. Stays its owner's. */
  readonly subscriber: RedisSubscriber;
  /**
   * What becomes of events that are not durable (updates of live commands, presence): kept while somebody on any node
   * watches their channel, or always. Default: `watched`.
   */
  readonly keepVolatile?: 'watched' | 'always' | undefined;
  /** Events kept per channel. Default: 10,000. */
  readonly maxEvents?: number | undefined;
  /** Bytes of data kept per channel. Default: 16 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** Events older than this are forgotten, in ms. Default: 7 days. */
  readonly maxEventAgeMs?: number | undefined;
  /** The same for channels of commands, and for channels without events. Default: 24 hours. */
  readonly maxCommandAgeMs?: number | undefined;
  /** Bytes kept in all channels together; beyond it the quietest are forgotten. Default: 512 MiB. */
  readonly maxTotalBytes?: number | undefined;
  /** Channels kept; beyond it the quietest are forgotten. Default: 1,000,000. */
  readonly maxChannels?: number | undefined;
  /** Producers remembered per channel. Default: 64. */
  readonly maxProducers?: number | undefined;
  /** How often is looked for what no wake-up told, in ms. Default: 750. */
  readonly sweepMs?: number | undefined;
  /** How long a channel stays watched after its last reader, in ms. Default: 30,000. */
  readonly interestMs?: number | undefined;
  /** Updates of commands whose channels nobody watches, in the memory of the node that has the command. */
  readonly memory?: Omit<EventTailOptions, 'clock'> | undefined;
  /** Replicas that have to confirm a durable event. Default: 0. */
  readonly replicas?: number | undefined;
  /** A connection for appends that wait for replicas; stays its owner's. Default: `connection`. */
  readonly writing?: RedisConnection | undefined;
  /** Events, and bytes of them, that may wait for Redis; beyond it they are refused. Default: 50,000 and 64 MiB. */
  readonly maxWaitingEvents?: number | undefined;
  readonly maxWaitingBytes?: number | undefined;
  /** Parts that channels are spread over; the same for all who ever use this Redis. Default: 64. */
  readonly shards?: number | undefined;
}

/** Fewest entries read at once, and about how many bytes of them. */
const minRead = 128;
const readBytes = 1024 * 1024;
/** Every so many sweeps all interest of a shard is read anew. */
const fullSweepEvery = 32;
/** Channels of commands that this node has opened, remembered. */
const maxOpened = 20_000;
const pruneSlice = 200;

const isCommand = (channel: string): boolean => channel.startsWith('command.', channel.indexOf('/') + 1);

/** Opens the event log of many nodes. Throws `unavailable` when Redis cannot be asked. */
export async function openRedisEventLog(options: RedisEventLogOptions): Promise<RedisEventLog> {
  const log = new RedisEventLog(options);
  try {
    await log.start();
  } catch (error) {
    await log.close();
    throw error;
  }
  return log;
}

/**
 * Channels in Redis, the same for all nodes: an event has its number from there, and a position taken at one node is
 * good at every other. Wake-ups are hints; a sweep finds what they did not tell. An event that is not durable goes to
 * Redis only while its channel is watched; what was skipped before is told to a reader who comes back as a gap. The
 * channel of a command is filled by the node that has it, once anybody on any node wants to read it.
 */
export class RedisEventLog implements EventLog {
  readonly #options: RedisEventLogOptions;
  readonly #connection: RedisConnection;
  readonly #shards: readonly EventShard[];
  readonly #wakes: string;
  readonly #keepsAll: boolean;
  readonly #interestMs: number;
  readonly #watched = new Map<string, WatchedChannel>();
  readonly #reading = new Map<string, Promise<EventPage>>();
  readonly #backlog: EventTail;
  readonly #opened = new Set<string>();
  readonly #releases: (() => void)[] = [];
  #history: (channel: string) => readonly NewEvent[] | undefined = () => undefined;
  #epoch = 1;
  #restarting: Promise<void> | undefined;
  #sweeps = 0;
  #sweeping: Promise<void> | undefined;
  #stopTimer: () => void = () => undefined;
  #isClosed = false;

  /** Use `openRedisEventLog`. */
  constructor(options: RedisEventLogOptions) {
    const { connection, shards = standardShards, memory } = options;
    this.#options = options;
    this.#connection = connection;
    this.#keepsAll = options.keepVolatile === 'always';
    this.#interestMs = options.interestMs ?? 30_000;
    this.#wakes = `${connection.prefix}:ev:`;
    this.#backlog = new EventTail(1, { ...memory, clock: connection.settings.clock });
    const commandAgeMs = options.maxCommandAgeMs ?? 24 * 3600_000;
    const host = {
      connection,
      writer: uniqueId(),
      wakes: this.#wakes,
      maxChannels: Math.max(1, Math.ceil((options.maxChannels ?? 1_000_000) / shards)),
      appendLimits: [
        options.maxEvents ?? 10_000,
        options.maxEventBytes ?? 16 * 2 ** 20,
        options.maxEventAgeMs ?? 7 * 24 * 3600_000,
        commandAgeMs,
        Math.ceil((options.maxTotalBytes ?? 512 * 2 ** 20) / shards),
        options.maxProducers ?? 64,
      ],
      replicas: options.replicas ?? 0,
      writing: options.writing ?? connection,
      maxWaitingSteps: Math.max(1, Math.ceil((options.maxWaitingEvents ?? 50_000) / shards)),
      maxWaitingBytes: Math.max(1, Math.ceil((options.maxWaitingBytes ?? 64 * 2 ** 20) / shards)),
      epoch: () => this.#epoch,
      onEpoch: (epoch: number) => {
        this.#epoch = Math.max(this.#epoch, epoch);
      },
      onEmptied: () => this.#restart(),
      onReached: (channel: string, position: Position) => this.#watched.get(channel)?.reached(position),
      onFailed: (error: HubError) => this.#trouble(error),
    };
    this.#shards = Array.from(
      { length: shards },
      (_, index) => new EventShard(index, shardPrefix(connection.prefix, index), host),
    );
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Learns the epoch and all interest. */
  async start(): Promise<void> {
    await this.#raiseEpoch(1);
    await Promise.all(this.#shards.map((shard) => this.#sweepShard(shard, [])));
    const { subscriber } = this.#options;
    this.#releases.push(
      subscriber.subscribe(`${this.#wakes}interest`, (message) => {
        const [, since, channel] = /^(\d+) (.*)$/s.exec(message) ?? [];
        if (channel !== undefined) this.#learn(this.#shardOf(channel), channel, Number(since));
      }),
      subscriber.onResumed(() => void this.#sweep()),
      this.#connection.onReady(() => void this.#sweep()),
    );
    this.#sweepLater();
  }

  append(channel: string, event: NewEvent): Promise<void> | undefined {
    if (this.#isClosed) throw new HubError('unavailable', 'the event log is closed');
    const shard = this.#shardOf(channel);
    if (event.durable) return this.#appendDurable(shard, channel, event);
    if (this.#keepsAll || this.#watched.has(channel) || shard.interest.has(channel)) {
      if (shard.refusal) shard.lost(channel);
      else this.#push(shard, 'event', channel, event);
      return undefined;
    }
    if (isCommand(channel)) {
      this.#backlog.add(this.#backlog.open(channel), event, 'kept');
      // Nobody has a place in it yet.
      if (!this.#opened.has(channel)) return undefined;
    }
    if (shard.interest.skip(channel, shard.serverNow)) shard.push({ kind: 'skip', channel });
    return undefined;
  }

  read(channel: string, after: Position, limit: number): EventPage | Promise<EventPage> {
    if (this.#isClosed) throw new HubError('unavailable', 'the event log is closed');
    // What was appended here is seen here.
    const page = this.#shardOf(channel).isIdle ? this.#watched.get(channel)?.page(after, limit) : undefined;
    if (page) return page;
    const key = `${channel} ${after.epoch}.${after.seq}/${limit}`;
    let reading = this.#reading.get(key);
    if (!reading) {
      reading = this.#read(channel, after, limit).finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    return reading;
  }

  async end(channel: string): Promise<Position> {
    const { epoch, last } = await this.#look(channel, { epoch: 0, seq: 0 }, 0);
    return { epoch, seq: last };
  }

  watch(channel: string, wake: () => void): () => void {
    const watched = this.#watched.get(channel) ?? this.#watchAnew(channel);
    const release = watched.add(wake);
    return () => {
      release();
      if (watched.isWatched || this.#watched.get(channel) !== watched) return;
      this.#watched.delete(channel);
      watched.release();
    };
  }

  recallCommands(history: (channel: string) => readonly NewEvent[] | undefined): void {
    this.#history = history;
  }

  async lastFrom(channel: string, producerId: string): Promise<number> {
    const shard = this.#shardOf(channel);
    await shard.flushed();
    const key = `${shardPrefix(this.#connection.prefix, shard.index)}ev:p:${channel}`;
    const heard = (await this.#connection.call('HGET', [key, producerId])) as Buffer | null;
    return heard === null ? 0 : Number(String(heard).split(' ', 1)[0]);
  }

  /** Tries what is under way, then lets go of everything; the connections stay their owner's. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopTimer();
    await Promise.all(this.#shards.map((shard) => shard.flushed()));
    await this.#sweeping;
    for (const release of this.#releases.splice(0)) release();
    for (const watched of this.#watched.values()) watched.release();
    this.#watched.clear();
    this.#backlog.close();
  }

  #shardOf(channel: string): EventShard {
    return this.#shards[shardOf(channel) % this.#shards.length]!;
  }

  #appendDurable(shard: EventShard, channel: string, event: NewEvent): Promise<void> {
    const { refusal } = shard;
    if (refusal) {
      shard.lost(channel);
      return Promise.reject(refusal);
    }
    if (!Number.isFinite(event.atMs))
      return Promise.reject(new HubError('invalid-argument', `${event.atMs} is not a time of event ${event.type}`));
    let data: string;
    try {
      data = dataJson(event.data);
    } catch (error) {
      const message = `data of event ${event.type} is no JSON: ${error instanceof Error ? error.message : error}`;
      return Promise.reject(new HubError('invalid-argument', message, { cause: error }));
    }
    return new Promise((resolve, reject) => {
      const { type, atMs: at, producer } = event;
      const settle = (error?: HubError) => (error ? reject(error) : resolve());
      shard.push({ kind: 'event', channel, type, at, data, producer, settle });
    });
  }

  #push(shard: EventShard, kind: 'event' | 'opening', channel: string, event: NewEvent): void {
    const { type, atMs: at, producer } = event;
    shard.push({ kind, channel, type, at, data: readableJson(event.data), producer });
  }

  async #read(channel: string, after: Position, limit: number): Promise<EventPage> {
    const look = await this.#look(channel, after, Math.max(limit, minRead));
    const page = pageOf(after, look, limit);
    const watched = this.#watched.get(channel);
    watched?.found({ epoch: look.epoch, seq: look.last });
    if (page.events.length > 0) watched?.keep(look.events.filter(({ epoch }) => epoch === look.epoch));
    return page;
  }

  /** What is in Redis after a position. Who looks is interested, for a while. */
  async #look(channel: string, after: Position, count: number): Promise<Look> {
    const shard = this.#shardOf(channel);
    for (;;) {
      await shard.flushed();
      const isKnown = this.#watched.has(channel) && shard.interest.has(channel);
      const args = [channel, isKnown ? 0 : this.#interestMs, after.epoch, after.seq, count, readBytes];
      const { epoch, rest } = await shard.call(lookScript, args);
      const [base, last, since, entries] = rest as [number, number, number, Buffer[]];
      // What this node had to add, now that somebody is interested, belongs to what there is to see.
      if (since > 0 && this.#learn(shard, channel, since)) continue;
      return { epoch, base, last, events: eventsOf(channel, entries) };
    }
  }

  #watchAnew(channel: string): WatchedChannel {
    const watched = new WatchedChannel(channel);
    this.#watched.set(channel, watched);
    watched.release = this.#options.subscriber.subscribe(`${this.#wakes}at:${channel}`, (message) => {
      const [epoch, seq] = message.split(' ').map(Number) as [number, number];
      if (epoch >= 1 && seq >= 0) watched.reached({ epoch, seq });
    });
    // Should this fail, the next sweep does it.
    this.end(channel).then(
      (end) => watched.found(end),
      (error: unknown) => this.#trouble(toHubError(error)),
    );
    return watched;
  }

  /** Hears that a channel is wanted, by whomever. True when there was something to add to it. */
  #learn(shard: EventShard, channel: string, since: number): boolean {
    const { isNew, hasHole } = shard.interest.learn(channel, since);
    if (!isNew || this.#isClosed) return false;
    if (hasHole) shard.push({ kind: 'hole', channel });
    return (isCommand(channel) && this.#openCommand(shard, channel)) || hasHole;
  }

  /** Puts into a command's channel what this node knows of it, if it has the command. */
  #openCommand(shard: EventShard, channel: string): boolean {
    const backlog = this.#backlog.take(channel);
    if (backlog && !backlog.isWhole) shard.push({ kind: 'hole', channel });
    // What is told from memory is what a channel begins with; what was appended is told in any case.
    for (const { type, atMs, dataJson } of backlog?.events.map(asNew) ?? [])
      shard.push({ kind: 'event', channel, type, at: atMs, data: dataJson });
    const history = backlog ? undefined : this.#history(channel);
    for (const event of history ?? []) this.#push(shard, 'opening', channel, event);
    if (!backlog && !history) return false;
    this.#opened.add(channel);
    if (this.#opened.size > maxOpened)
      for (const oldest of this.#opened) {
        this.#opened.delete(oldest);
        break;
      }
    return true;
  }

  /** What Redis kept is gone: a new epoch begins, above all before. */
  #restart(): Promise<void> {
    this.#restarting ??= this.#raiseEpoch(this.#epoch + 1)
      .then(() => {
        const message = `channels are not there any more: epoch ${this.#epoch} begins, and readers are told`;
        this.#connection.settings.observe({ kind: 'redis-emptied', message });
      })
      .finally(() => {
        this.#restarting = undefined;
      });
    return this.#restarting;
  }

  async #raiseEpoch(least: number): Promise<void> {
    this.#epoch = (await this.#connection.run(epochScript, [`${this.#connection.prefix}:ev:epoch`], [least])) as number;
  }

  #sweepLater(): void {
    this.#stopTimer();
    if (this.#isClosed) return;
    const { sweepMs = 750 } = this.#options;
    this.#stopTimer = this.#connection.settings.clock.after(sweepMs, () => void this.#sweep());
  }

  #sweep(): Promise<void> {
    this.#sweeping ??= this.#sweepAll().finally(() => {
      this.#sweeping = undefined;
      this.#sweepLater();
    });
    return this.#sweeping;
  }

  async #sweepAll(): Promise<void> {
    this.#sweeps++;
    const watched = new Map<EventShard, string[]>();
    for (const channel of this.#watched.keys()) {
      const shard = this.#shardOf(channel);
      const others = watched.get(shard);
      if (others) others.push(channel);
      else watched.set(shard, [channel]);
    }
    const work = this.#shards.map((shard) => this.#sweepShard(shard, watched.get(shard) ?? []));
    work.push(this.#prune(this.#shards[this.#sweeps % this.#shards.length]!));
    const failed = (await Promise.allSettled(work)).find((each) => each.status === 'rejected');
    if (failed) this.#trouble(toHubError(failed.reason));
  }

  async #sweepShard(shard: EventShard, channels: readonly string[]): Promise<void> {
    const { clock } = this.#connection.settings;
    const isFull = shard.heardUntil === 0 || (this.#sweeps + shard.index) % fullSweepEvery === 0;
    const args = [isFull ? 0 : shard.heardUntil, this.#interestMs, ...channels];
    const { epoch, now, rest } = await shard.call(sweepScript, args);
    const [fresh, lasts] = rest as [Buffer[], number[]];
    // Interest may have come and gone unheard.
    if (clock.monotonic() - shard.sweptAt > this.#interestMs / 2) shard.interest.forgetAllSkips();
    shard.sweptAt = clock.monotonic();
    shard.heardUntil = now;
    const wanted = new Map<string, number>();
    for (let i = 0; i < fresh.length; i += 2) wanted.set(String(fresh[i]), Number(fresh[i + 1]));
    if (isFull) shard.interest.replace(wanted);
    for (const [channel, since] of wanted) this.#learn(shard, channel, since);
    for (const [i, channel] of channels.entries()) this.#watched.get(channel)?.reached({ epoch, seq: lasts[i]! });
    shard.tellLost();
  }

  async #prune(shard: EventShard): Promise<void> {
    const { maxCommandAgeMs = 24 * 3600_000, maxEventAgeMs = 7 * 24 * 3600_000 } = this.#options;
    const args = [maxCommandAgeMs, maxEventAgeMs, pruneSlice, shard.pruneOffset];
    const [looked, gone] = (await shard.call(pruneScript, args)).rest as [number, number];
    shard.pruneOffset = looked < pruneSlice ? 0 : shard.pruneOffset + looked - gone;
  }

  #trouble(error: HubError): void {
    if (!this.#isClosed) this.#connection.settings.observe({ kind: 'redis-trouble', error });
  }
}

function asNew(event: { type: string; atMs: number; dataJson(): string }) {
  return { type: event.type, atMs: event.atMs, dataJson: event.dataJson() };
}
