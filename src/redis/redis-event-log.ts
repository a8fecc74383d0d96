import { HubError, toHubError } from '../errors.ts';
import type { EventLog, EventPage, NewEvent, Position } from '../events/event-log.ts';
import { EventTail } from '../events/event-tail.ts';
import { readableJson, storableJson } from '../events/kept-event.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { RedisConnection } from './connection.ts';
import { eventLimits, type RedisEventLogOptions } from './event-log-options.ts';
import { eventsOf, type Look, pageOf } from './event-pages.ts';
import { epochScript, lookScript } from './event-scripts.ts';
import { EventShard } from './event-shard.ts';
import { EventSweep } from './event-sweep.ts';
import { shardOf, shardPrefix, shards as standardShards } from './keys.ts';
import { WatchedChannel } from './watched-channel.ts';

/** Fewest entries read at once, and about how many bytes of them. */
const minRead = 128;
const readBytes = 1024 * 1024;
/** Channels of commands that this node has opened, remembered. */
const maxOpened = 20_000;

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
  readonly #sweep: EventSweep;
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
    const limits = eventLimits(options, shards);
    const host = {
      ...limits,
      connection,
      writer: uniqueId(),
      wakes: this.#wakes,
      replicas: options.replicas ?? 0,
      writing: options.writing ?? connection,
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
    this.#sweep = new EventSweep({
      clock: connection.settings.clock,
      shards: this.#shards,
      everyMs: options.sweepMs ?? 750,
      interestMs: this.#interestMs,
      ...limits,
      watched: () => this.#watched.values(),
      shardOf: (channel) => this.#shardOf(channel),
      onWanted: (shard, channel, since) => this.#learn(shard, channel, since),
      onFailed: host.onFailed,
    });
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Learns the epoch and all interest. */
  async start(): Promise<void> {
    await this.#raiseEpoch(1);
    await this.#sweep.first();
    const { subscriber } = this.#options;
    this.#releases.push(
      subscriber.subscribe(`${this.#wakes}interest`, (message) => {
        const [, since, channel] = /^([\d.]+) (.*)$/s.exec(message) ?? [];
        if (channel !== undefined) this.#learn(this.#shardOf(channel), channel, Number(since));
      }),
      subscriber.onResumed(() => void this.#sweep.now()),
      this.#connection.onReady(() => void this.#sweep.now()),
    );
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
    await Promise.all([this.#sweep.stop(), ...this.#shards.map((shard) => shard.flushed())]);
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
    let data: string;
    try {
      data = storableJson(event);
    } catch (error) {
      return Promise.reject(error);
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
      const [base, last, wantedSince, entries] = rest as [number, number, Buffer, Buffer[]];
      const since = Number(wantedSince);
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

  #trouble(error: HubError): void {
    if (!this.#isClosed) this.#connection.settings.observe({ kind: 'redis-trouble', error });
  }
}

function asNew(event: { type: string; atMs: number; dataJson(): string }) {
  return { type: event.type, atMs: event.atMs, dataJson: event.dataJson() };
}
