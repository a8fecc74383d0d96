import { HubError } from '../errors.ts';
import type { ChannelTail } from '../events/channel-tail.ts';
import type {
  CommandHistory,
  EventLog,
  EventPage,
  NewEvent,
  Position,
  StepChannel,
  StepSource,
} from '../events/event-log.ts';
import type { EventTail } from '../events/event-tail.ts';
import { storableJson } from '../events/kept-event.ts';
import type { Announcement } from '../tasks/run-store.ts';
import type { EventRow } from './event-table.ts';
import { eventValues } from './event-values.ts';
import type { StoreThread } from './store-thread.ts';
import { StoredPages } from './stored-pages.ts';

const done = Promise.resolve();

/**
 * The newest events in memory, durable ones also in SQLite. A durable event gets its number at once and is seen once it
 * is on disk; what follows it in its channel waits for it. `close` belongs to the thread's owner.
 */
export class SqliteEventLog implements EventLog {
  readonly epoch: number;
  readonly #tail: EventTail;
  readonly #thread: StoreThread;
  readonly #now: () => number;
  readonly #pages: StoredPages;
  readonly #epochs: ReadonlySet<number>;
  /** Numbered events of producers that are being stored: one that is sent again gets the same answer. */
  readonly #inFlight = new Map<string, Promise<void>>();
  readonly #learning = new Map<string, Promise<void>>();

  constructor(thread: StoreThread, tail: EventTail, epochs: readonly number[], now: () => number) {
    this.epoch = tail.epoch;
    this.#tail = tail;
    this.#thread = thread;
    this.#now = now;
    this.#epochs = new Set(epochs);
    this.#pages = new StoredPages(thread, tail);
  }

  append(channel: string, event: NewEvent): Promise<void> | undefined {
    if (this.#tail.isClosed) throw new HubError('unavailable', 'the event log is closed');
    const target = this.#tail.open(channel);
    if (event.durable) return this.#appendDurable(target, event);
    if (event.producer) {
      const learning = this.#learning.get(`${channel}\n${event.producer.id}`);
      if (learning) return learning.then(() => this.append(channel, event));
      if (event.producer.seq <= (this.#tail.heardFrom(target, event.producer.id) ?? 0)) return undefined;
      this.#tail.hear(target, event.producer.id, event.producer.seq);
    }
    this.#tail.add(target, event, 'kept');
    return undefined;
  }

  /**
   * Appends durable events by a call that does something else as well: `write` puts the rows onto the disk, or resolves
   * to false if nothing was done; the events are then holes in their channels.
   */
  async appendWith(
    events: readonly Announcement[],
    write: (rows: readonly EventRow[]) => Promise<boolean>,
  ): Promise<boolean> {
    const refusal = this.#tail.isClosed ? new HubError('unavailable', 'the event log is closed') : this.#thread.refusal;
    if (refusal) throw refusal;
    const pending = events.map(({ channel, type, atMs, dataJson }) => {
      const target = this.#tail.open(channel);
      const event = { type, atMs, durable: true, data: undefined, bytes: 0 };
      return { target, row: this.#pend(target, event, dataJson) };
    });
    let isWritten = false;
    try {
      isWritten = await write(pending.map(({ row }) => row));
      return isWritten;
    } finally {
      for (const { target, row } of pending) this.#tail.settle(target, row.seq, isWritten ? 'kept' : 'lost');
    }
  }

  /**
   * As `appendWith`, of a step. `write` is also told the time at which the event is kept, and says with anything but
   * undefined that nothing was done.
   */
  appendStepWith<T>(
    channel: StepChannel,
    source: StepSource,
    step: number,
    write: (row: EventRow, nowMs: number) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const refusal = this.#tail.isClosed ? new HubError('unavailable', 'the event log is closed') : this.#thread.refusal;
    if (refusal) return Promise.reject(refusal);
    const event = source.eventOf(step);
    let data: string;
    try {
      data = storableJson(event);
    } catch (error) {
      return Promise.reject(error);
    }
    const target = this.#tail.addStep(channel, source, step, 'pending');
    const row = this.#rowOf(target, event, data);
    return this.#settled(target, row, write(row, this.#now()));
  }

  appendStep(channel: StepChannel, source: StepSource, step: number, isDurable: boolean): Promise<void> | undefined {
    if (this.#tail.isClosed) throw new HubError('unavailable', 'the event log is closed');
    if (!isDurable) {
      this.#tail.addStep(channel, source, step, 'kept');
      return undefined;
    }
    return this.appendStepWith(channel, source, step, (row, nowMs) => this.#write(row, nowMs));
  }

  isOpen(channel: string): boolean {
    return this.#tail.isOpen(channel);
  }

  recallCommands(known: (channel: string) => CommandHistory | undefined): void {
    this.#tail.history = known;
  }

  beginCommand(channel: string, history: CommandHistory): void {
    this.#tail.begin(channel, history);
  }

  read(channel: string, after: Position, limit: number): EventPage | Promise<EventPage> {
    this.#tail.recall(channel);
    if (after.epoch === this.epoch && after.seq <= this.#tail.end(channel).seq) {
      const isInMemory = after.seq >= this.#tail.oldest(channel) - 1;
      return isInMemory ? this.#tail.read(channel, after, limit) : this.#pages.read(channel, after, limit);
    }
    const isKnown = after.epoch !== this.epoch && this.#epochs.has(after.epoch);
    if (isKnown || after.epoch === 0) return this.#pages.read(channel, after, limit);
    const gap = { kind: 'reset', reason: 'unknown-position' } as const;
    return { events: [], gap, next: { epoch: 0, seq: 0 }, atEnd: false };
  }

  end(channel: string): Position {
    this.#tail.recall(channel);
    return this.#tail.end(channel);
  }

  watch(channel: string, wake: () => void): () => void {
    return this.#tail.watch(channel, wake);
  }

  async lastFrom(channel: string, producerId: string): Promise<number> {
    const stored = await this.#thread.call('lastFrom', [channel, producerId]);
    const target = this.#tail.find(channel);
    const heard = (target && this.#tail.heardFrom(target, producerId)) ?? 0;
    return this.#inFlight.has(`${channel}\n${producerId}\n${heard}`) ? stored : Math.max(stored, heard);
  }

  /** To be called when events were dropped from the disk. */
  forgetPages(): void {
    this.#pages.forget();
  }

  async close(): Promise<void> {
    this.#tail.close();
  }

  #appendDurable(target: ChannelTail, event: NewEvent): Promise<void> {
    const { producer } = event;
    let producerKey = '';
    if (producer) {
      const heard = this.#tail.heardFrom(target, producer.id);
      if (heard === undefined) return this.#learn(target, producer.id).then(() => this.append(target.key, event));
      producerKey = `${target.key}\n${producer.id}\n${producer.seq}`;
      if (producer.seq <= heard) return this.#inFlight.get(producerKey) ?? done;
    }
    const refusal = this.#thread.refusal;
    if (refusal) return Promise.reject(refusal);
    let data: string;
    try {
      data = storableJson(event);
    } catch (error) {
      return Promise.reject(error);
    }
    const row = this.#pend(target, event, data);
    if (producer) this.#tail.hear(target, producer.id, producer.seq);
    const written = this.#store(target, row);
    if (!producer) return written;
    const stored = written.then(
      () => {
        this.#inFlight.delete(producerKey);
      },
      (error) => {
        // It may send this one again: what is on disk decides.
        this.#inFlight.delete(producerKey);
        target.producers?.delete(producer.id);
        throw error;
      },
    );
    this.#inFlight.set(producerKey, stored);
    return stored;
  }

  /** Puts an event that has its number onto the disk, and lets readers see it then. */
  #store(target: ChannelTail, row: EventRow): Promise<void> {
    return this.#settled(target, row, this.#write(row, this.#now()));
  }

  #write(row: EventRow, nowMs: number): Promise<void> {
    return this.#thread.call('append', [eventValues(row), nowMs], row.data.length + 256);
  }

  /** Lets readers see an event once `written` has put it onto the disk; anything but undefined says that it has not. */
  #settled<T>(target: ChannelTail, { seq }: EventRow, written: Promise<T>): Promise<T> {
    return written.then(
      (instead) => {
        this.#tail.settle(target, seq, instead === undefined ? 'kept' : 'lost');
        return instead;
      },
      (error) => {
        this.#tail.settle(target, seq, 'lost');
        throw error;
      },
    );
  }

  /** Gives an event its number; nobody sees it until it is settled. */
  #pend(target: ChannelTail, event: NewEvent, data: string): EventRow {
    const { type, atMs, isLasting = false } = event;
    const kept = this.#tail.add(
      target,
      isLasting ? event : { type, atMs, durable: true, data: undefined, bytes: 0 },
      'pending',
    );
    if (!isLasting) kept.useDataJson(data);
    return this.#rowOf(target, event, data);
  }

  /** As it goes to the disk, of the event that got the newest number of its channel. */
  #rowOf(target: ChannelTail, { type, atMs, producer }: NewEvent, data: string): EventRow {
    return {
      channel: target.key,
      epoch: this.epoch,
      seq: target.last,
      type,
      atMs,
      data,
      producer: producer?.id,
      producerSeq: producer?.seq ?? 0,
    };
  }

  /** Finds out what a producer had stored before this process or this channel's memory began. */
  #learn(target: ChannelTail, producer: string): Promise<void> {
    const key = `${target.key}\n${producer}`;
    let learning = this.#learning.get(key);
    if (!learning) {
      learning = this.#thread
        .call('lastFrom', [target.key, producer])
        .then((last) => this.#tail.hear(this.#tail.open(target.key), producer, last))
        .finally(() => this.#learning.delete(key));
      this.#learning.set(key, learning);
    }
    return learning;
  }
}
