import { HubError, toHubError } from '../errors.ts';
import type { CommandHistory, EventLog, EventPage, NewEvent, Position } from '../events/event-log.ts';
import { storableJson } from '../events/kept-event.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { RedisConnection } from './connection.ts';
import { eventLimits, type RedisEventLogOptions } from './event-log-options.ts';
import { eventsOf, type Look, pageOf } from './event-pages.ts';
import { epochScript, lookScript } from './event-scripts.ts';
import { EventShard, type Step } from './event-shard.ts';
import { EventSweep } from './event-sweep.ts';
import { shardOf, shardPrefix, shards as standardShards } from './keys.ts';
import { StoredCommands } from './stored-commands.ts';
import { beginningOf, stepOf, UntoldCommands } from './untold-commands.ts';
import { WatchedChannel } from './watched-channel.ts';

/** Fewest entries read at once, and about how many bytes of them. */
const minRead = 128;
const readBytes = 1024 * 1024;

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
  readonly #untold: UntoldCommands;
  readonly #stored: StoredCommands;
  readonly #releases: (() => void)[] = [];
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
    const { clock } = connection.settings;
    this.#untold = new UntoldCommands({ ...memory, clock });
    const sweepMs = options.sweepMs ?? 750;
    this.#stored = new StoredCommands({
      clock,
      heardWithinMs: 2 * sweepMs,
      watch: (channel, wake) => this.watch(channel, wake),
      look: (channel, after, count) => this.#look(channel, after, count),
      push: (steps) => this.#tell(steps),
      failed: (error) => this.#trouble(toHubError(error)),
    });
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
      clock,
      shards: this.#shards,
      everyMs: sweepMs,
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
    if (this.#isKept(shard, channel)) {
      if (shard.refusal) shard.lost(channel);
      else shard.push(stepOf('event', channel, event));
      return undefined;
    }
    if (isCommand(channel)) {
      if (!this.#untold.add(channel, event)) return undefined;
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

  isOpen(channel: string): boolean {
    return this.#untold.has(channel) || this.#isKept(this.#shardOf(channel), channel);
  }

  recallCommands(
    known: (channel: string) => CommandHistory | undefined,
    stored: (channel: string) => Promise<CommandHistory | undefined> = async () => undefined,
  ): void {
    this.#untold.known = known;
    this.#stored.find = stored;
  }

  beginCommand(channel: string, history: CommandHistory): void {
    if (this.#isKept(this.#shardOf(channel), channel)) this.#tell(beginningOf(channel, history));
    else this.#untold.begin(channel, history);
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
    this.#untold.close();
  }

  #shardOf(channel: string): EventShard {
    return this.#shards[shardOf(channel) % this.#shards.length]!;
  }

  #isKept(shard: EventShard, channel: string): boolean {
    return this.#keepsAll || this.#watched.has(channel) || shard.interest.has(channel);
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

  async #read(channel: string, after: Position, limit: number): Promise<EventPage> {
    let look = await this.#look(channel, after, Math.max(limit, minRead));
    if (look.last === look.base && isCommand(channel)) {
      await this.#stored.begun(channel);
      look = await this.#look(channel, after, Math.max(limit, minRead));
    }
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
    const unsubscribe = this.#options.subscriber.subscribe(`${this.#wakes}at:${channel}`, (message) => {
      const [epoch, seq] = message.split(' ').map(Number) as [number, number];
      if (epoch >= 1 && seq >= 0) watched.reached({ epoch, seq });
    });
    const unfollow = isCommand(channel) ? this.#stored.follow(channel, () => watched.newest) : () => undefined;
    watched.release = () => {
      unsubscribe();
      unfollow();
    };
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
    // What this node knows of a command.
    const steps = isCommand(channel) ? this.#untold.take(channel) : [];
    this.#tell(steps);
    return steps.length > 0 || hasHole;
  }

  /** Tells of one command. */
  #tell(steps: readonly Step[]): void {
    for (const step of steps) this.#shardOf(step.channel).push(step);
    if (steps.length > 0) this.#untold.noteTold(steps[0]!.channel);
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
