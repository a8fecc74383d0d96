import type { Database } from './driver.ts';

/** An event on its way to the disk. */
export interface EventRow {
  readonly channel: string;
  readonly epoch: number;
  readonly seq: number;
  readonly type: string;
  readonly atMs: number;
  readonly data: string;
  readonly producer: string | undefined;
  readonly producerSeq: number;
}

/** An event as it comes back: epoch, seq, type, atMs, data. */
export type ReadRow = readonly [epoch: number, seq: number, type: string, atMs: number, data: string];

export interface EventRetention {
  /** Durable events kept per channel. */
  readonly maxEvents: number;
  /** Bytes of data kept per channel. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  /** Durable events kept in all channels together. */
  readonly maxTotalEvents: number;
}

interface ChannelRow {
  readonly id: number;
  readonly key: string;
  events: number;
  bytes: number;
}

interface PrunableRow {
  readonly id: number;
  readonly channel: number;
  readonly bytes: number;
}

/** Channels whose row is remembered, so that not every append has to look it up. */
const rememberedChannels = 50_000;

/** The durable events in the database. Runs in the store's thread; the caller makes the transactions. */
export class EventTable {
  readonly #db: Database;
  readonly #retention: EventRetention;
  readonly #channels = new Map<string, ChannelRow>();
  readonly #changed = new Set<ChannelRow>();
  /** Ids of channels beyond their limits. */
  readonly #over = new Set<number>();
  #total = 0;
  readonly #channel;
  readonly #newChannel;
  readonly #saveChannel;
  readonly #insert;
  readonly #hear;
  readonly #lastFrom;
  readonly #read;
  readonly #oldest;
  readonly #oldestOf;
  readonly #channelById;
  readonly #delete;
  readonly #deleteChannel;
  readonly #forgetProducers;

  constructor(db: Database, retention: EventRetention) {
    this.#db = db;
    this.#retention = retention;
    this.#channel = db.prepare<[string], ChannelRow>('SELECT id, key, events, bytes FROM channels WHERE key = ?');
    this.#newChannel = db.prepare<[string, number]>(
      'INSERT INTO channels (key, events, bytes) VALUES (?, 1, ?) ON CONFLICT DO NOTHING',
    );
    this.#saveChannel = db.prepare<[number, number, number]>('UPDATE channels SET events = ?, bytes = ? WHERE id = ?');
    this.#insert = db.prepare<unknown[]>(
      'INSERT INTO events (channel, epoch, seq, type, at_ms, kept_ms, data) VALUES (?, ?, ?, ?, ?, ?, ?)',
    );
    this.#hear = db.prepare<[string, string, number, number]>(
      `INSERT INTO producers (channel, producer, seq, kept_ms) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq), kept_ms = excluded.kept_ms`,
    );
    this.#lastFrom = db
      .prepare<[string, string], number>('SELECT seq FROM producers WHERE channel = ? AND producer = ?')
      .pluck();
    this.#read = db
      .prepare<unknown[], ReadRow>(
        `SELECT epoch, seq, type, at_ms, data FROM events WHERE channel = (SELECT id FROM channels WHERE key = ?)
           AND (epoch, seq) > (?, ?) AND (epoch, seq) < (?, ?) ORDER BY epoch, seq LIMIT ?`,
      )
      .raw();
    const prunable = 'SELECT id, channel, octet_length(data) AS bytes FROM events';
    this.#oldest = db.prepare<[number], PrunableRow & { kept_ms: number }>(
      'SELECT id, channel, octet_length(data) AS bytes, kept_ms FROM events ORDER BY id LIMIT ?',
    );
    this.#oldestOf = db.prepare<[number, number], PrunableRow>(
      `${prunable} WHERE channel = ? ORDER BY epoch, seq LIMIT ?`,
    );
    this.#channelById = db.prepare<[number], ChannelRow>('SELECT id, key, events, bytes FROM channels WHERE id = ?');
    this.#delete = db.prepare<[number]>('DELETE FROM events WHERE id = ?');
    this.#deleteChannel = db.prepare<[number]>('DELETE FROM channels WHERE id = ?');
    this.#forgetProducers = db.prepare<[number, number]>('DELETE FROM producers WHERE kept_ms < ? LIMIT ?');
    this.forget();
  }

  /** Forgets what it remembers of the database: after a rollback that may be wrong. */
  forget(): void {
    this.#channels.clear();
    this.#changed.clear();
    this.#over.clear();
    this.#total = this.#db.prepare('SELECT coalesce(sum(events), 0) FROM channels').pluck().get() as number;
    const over = this.#db.prepare<[number, number], number>('SELECT id FROM channels WHERE events > ? OR bytes > ?');
    for (const id of over.pluck().all(this.#retention.maxEvents, this.#retention.maxBytes))
      this.#over.add(id as number);
  }

  /** Begins a new epoch, above all before. Returns all epochs, oldest first. */
  beginEpoch(nowMs: number): number[] {
    const epochs = this.#db.prepare<[], number>('SELECT epoch FROM epochs ORDER BY epoch').pluck().all() as number[];
    const epoch = Math.max((epochs.at(-1) ?? 0) + 1, nowMs);
    this.#db.prepare('INSERT INTO epochs (epoch, started_at_ms) VALUES (?, ?)').run(epoch, nowMs);
    return [...epochs, epoch];
  }

  append(row: EventRow, nowMs: number): void {
    const channel = this.#channelWith(row.channel, Buffer.byteLength(row.data));
    this.#insert.run(channel.id, row.epoch, row.seq, row.type, row.atMs, nowMs, row.data);
    if (row.producer !== undefined) this.#hear.run(row.channel, row.producer, row.producerSeq, nowMs);
    this.#total++;
  }

  /** Writes the counts of the channels that changed; to be called before each commit. */
  save(): void {
    for (const channel of this.#changed) {
      if (channel.events > 0) {
        this.#saveChannel.run(channel.events, channel.bytes, channel.id);
      } else {
        this.#deleteChannel.run(channel.id);
        this.#channels.delete(channel.key);
      }
    }
    this.#changed.clear();
  }

  lastFrom(channel: string, producer: string): number {
    return this.#lastFrom.get(channel, producer) ?? 0;
  }

  /** Events after one (epoch, seq) and before another: the first of them that together have `maxBytes` of data, about. */
  read(
    channel: string,
    after: { readonly epoch: number; readonly seq: number },
    before: { readonly epoch: number; readonly seq: number },
    limit: number,
    maxBytes: number,
  ): ReadRow[] {
    const rows: ReadRow[] = [];
    let bytes = 0;
    for (const row of this.#read.iterate(channel, after.epoch, after.seq, before.epoch, before.seq, limit)) {
      rows.push(row);
      bytes += row[4].length;
      if (bytes >= maxBytes) break;
    }
    return rows;
  }

  /** Drops at most about `slice` events beyond the limits. Returns how many; 0: nothing is left to do. */
  prune(nowMs: number, slice: number): number {
    const { maxAgeMs, maxTotalEvents, maxEvents, maxBytes } = this.#retention;
    let dropped = 0;
    let surplus = this.#total - maxTotalEvents;
    for (const row of this.#oldest.all(slice)) {
      if (row.kept_ms >= nowMs - maxAgeMs && surplus-- <= 0) break;
      this.#drop(row);
      dropped++;
    }
    for (const id of this.#over) {
      if (dropped >= slice) break;
      const channel = this.#knownById(id);
      for (const row of channel ? this.#oldestOf.all(id, slice - dropped) : []) {
        if (channel!.events <= maxEvents && channel!.bytes <= maxBytes) break;
        this.#drop(row);
        dropped++;
      }
      if (!channel || (channel.events <= maxEvents && channel.bytes <= maxBytes)) this.#over.delete(id);
    }
    if (Number.isFinite(maxAgeMs)) dropped += this.#forgetProducers.run(nowMs - maxAgeMs, slice).changes;
    return dropped;
  }

  #drop(row: PrunableRow): void {
    this.#delete.run(row.id);
    this.#total--;
    const channel = this.#knownById(row.channel);
    if (channel) this.#count(channel, -1, -row.bytes);
  }

  #count(channel: ChannelRow, events: number, bytes: number): void {
    channel.events += events;
    channel.bytes += bytes;
    this.#changed.add(channel);
    this.#look(channel);
  }

  #look({ id, events, bytes }: ChannelRow): void {
    if (events > this.#retention.maxEvents || bytes > this.#retention.maxBytes) this.#over.add(id);
  }

  /** A channel with one more event. A new one, as most channels of runs are, is written once, with its counts. */
  #channelWith(key: string, bytes: number): ChannelRow {
    let channel = this.#channels.get(key);
    if (!channel) {
      const { changes, lastInsertRowid } = this.#newChannel.run(key, bytes);
      if (changes > 0) {
        channel = this.#remember({ id: Number(lastInsertRowid), key, events: 1, bytes });
        this.#look(channel);
        return channel;
      }
      channel = this.#remember(this.#channel.get(key)!);
    }
    this.#count(channel, 1, bytes);
    return channel;
  }

  #knownById(id: number): ChannelRow | undefined {
    const row = this.#channelById.get(id);
    return row && (this.#channels.get(row.key) ?? this.#remember(row));
  }

  #remember(channel: ChannelRow): ChannelRow {
    if (this.#channels.size >= rememberedChannels) {
      this.save();
      this.#channels.clear();
    }
    this.#channels.set(channel.key, channel);
    return channel;
  }
}
