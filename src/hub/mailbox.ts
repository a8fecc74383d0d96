import { Deque } from '../flow/deque.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import type { Command } from '../protocol/command.ts';
import type { CommandStore, StoredCommand } from './command-store.ts';
import type { Holds } from './holds.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';

/** Stored commands that are read, or marked, in one go. */
const pageSize = 64;
/** Fewer than this many loaded: read the next page. */
const lowWater = 16;
const retryMs = 1000;

/** Whose mailbox it is. */
export interface MailboxOwner {
  readonly tenant: string;
  readonly id: string;
  /** Commands to be written again, before those of the mailbox. */
  readonly resend: Iterable<PendingCommand>;
  /** Writes what can be written. */
  pump(): void;
}

/** What a mailbox needs of the hub. */
export interface MailboxHost {
  readonly store: CommandStore;
  readonly wheel: TimingWheel;
  readonly holds: Holds;
  /** Highest position that this process has seen in the store. */
  newestPosition: number;
  /** Makes a stored command ready to go: the pending one when it belongs at the end of the queue. */
  adopt(stored: StoredCommand): PendingCommand | undefined;
  /** When the hub has to look at a sent command again, in Unix ms. */
  dueAfterSending(pending: PendingCommand): number;
  failed(operation: string, cause: unknown): void;
}

/** The stored commands of one client, of which only the next few are in memory, and none while it is away. */
export class Mailbox {
  readonly #owner: MailboxOwner;
  readonly #host: MailboxHost;
  readonly #queue = new Deque<PendingCommand>();
  /** Everything in the store up to this position is loaded, in flight or ended. */
  #loadedUpTo = 0;
  /** The store may hold more above that. */
  #hasMore = true;
  #isLoading = false;
  #isMarking = false;
  /** The store does not answer: live commands do not wait for it. */
  #isBroken = false;
  /** Counts the times that it went back, so that a page that was asked for before one is not taken for the present. */
  #generation = 0;
  #retry: Alarm | undefined;

  constructor(owner: MailboxOwner, host: MailboxHost) {
    this.#owner = owner;
    this.#host = host;
  }

  get first(): PendingCommand | undefined {
    return this.#queue.first;
  }

  get loaded(): number {
    return this.#queue.size;
  }

  get newestPosition(): number {
    return this.#host.newestPosition;
  }

  get isBusy(): boolean {
    return this.#isLoading || this.#isMarking;
  }

  /** True when nothing stands between a new command and the stream, so that it can be stored as sent at once. */
  get isCaughtUp(): boolean {
    return !this.#hasMore && !this.#isLoading && this.#queue.size === 0;
  }

  /** Stored commands above this position are not loaded. */
  get loadedUpTo(): number {
    return this.#loadedUpTo;
  }

  /** Whether the store may hold a command at or below `position` that is not loaded yet. */
  mayHold(position: number): boolean {
    return !this.#isBroken && (this.#hasMore || this.#isLoading) && this.#loadedUpTo < position;
  }

  /** The store has just answered that it has this command, which is not on its way. */
  accepted(pending: PendingCommand): void {
    if (this.#hasMore || this.#isLoading || pending.position! <= this.#loadedUpTo) this.found(pending);
    else {
      this.#loadedUpTo = pending.position!;
      pending.place = 'waiting';
      this.#queue.push(pending);
      this.#owner.pump();
    }
  }

  /** One that is not on its way was come upon in the store: reads again from there, as others may stand before it. */
  found(pending: PendingCommand): void {
    if (pending.position! <= this.#loadedUpTo) {
      this.#loadedUpTo = pending.position! - 1;
      this.#generation++;
    }
    this.lookAgain();
  }

  /** The store may hold more than was seen. */
  lookAgain(): void {
    this.#hasMore = true;
    this.#owner.pump();
  }

  /** The loaded commands that wait and have this coalesce key. */
  withCoalesceKey(key: string): PendingCommand[] {
    return [...this.#queue].filter((pending) => pending.command.coalesceKey === key);
  }

  shift(): void {
    this.#queue.shift();
  }

  remove(pending: PendingCommand): void {
    this.#queue.remove(pending);
  }

  /** The client is away: nothing of its mailbox stays in memory. */
  unload(release: (pending: PendingCommand) => void): void {
    const first = this.#queue.first;
    if (first) this.#loadedUpTo = first.position! - 1;
    this.#generation++;
    this.#hasMore = true;
    for (const pending of this.#queue) {
      pending.place = 'shelf';
      release(pending);
    }
    this.#queue.clear();
  }

  /** Another hub has the client: what was in flight here may wait in the store again when it comes back. */
  startOver(): void {
    this.#loadedUpTo = 0;
    this.#generation++;
    this.#hasMore = true;
  }

  loadIfLow(): void {
    if (this.#hasMore && !this.#isLoading && !this.#isBroken && this.#queue.size <= lowWater) this.#load();
  }

  #load(): void {
    this.#isLoading = true;
    this.#hasMore = false;
    const generation = this.#generation;
    const { tenant, id } = this.#owner;
    this.#host.store.mailbox(tenant, id, this.#loadedUpTo, pageSize).then(
      (page) => {
        this.#isLoading = false;
        if (generation !== this.#generation) this.#hasMore = true;
        else this.#takePage(page);
        this.#owner.pump();
      },
      (cause: unknown) => {
        this.#isLoading = false;
        this.#hasMore = true;
        this.#broke('read the mailbox', cause);
      },
    );
  }

  /** Notes on disk that `head`, and what follows it, is about to be written; then pumps again. */
  mark(journalId: string, head: PendingCommand): void {
    if (this.#isMarking || this.#isBroken) return;
    this.#isMarking = true;
    const source = head === this.#queue.first ? this.#queue : this.#owner.resend;
    const batch: PendingCommand[] = [];
    for (const pending of source) {
      if (batch.length === pageSize) break;
      if (pending.isQueued && pending.journal !== journalId) batch.push(pending);
    }
    const owner = { tenant: this.#owner.tenant, clientId: this.#owner.id };
    const marks = batch.map((pending) => ({ id: pending.id, dueAtMs: this.#host.dueAfterSending(pending) }));
    this.#host.store.markSent(marks, journalId, { owner, hold: this.#host.holds.of(owner) }).then(
      () => {
        this.#isMarking = false;
        for (const pending of batch) pending.journal = journalId;
        this.#owner.pump();
      },
      (cause: unknown) => {
        this.#isMarking = false;
        if (!this.#host.holds.isLost(cause, owner)) this.#broke('mark commands as sent', cause);
      },
    );
  }

  #takePage(page: readonly StoredCommand[]): void {
    for (const stored of page) {
      this.#loadedUpTo = stored.position;
      this.#host.newestPosition = Math.max(this.#host.newestPosition, stored.position);
      const pending = this.#host.adopt(stored);
      if (!pending) continue;
      pending.place = 'waiting';
      this.#queue.push(pending);
    }
    if (page.length === pageSize) this.#hasMore = true;
  }

  #broke(operation: string, cause: unknown): void {
    this.#isBroken = true;
    this.#retry ??= new Alarm(() => {
      this.#isBroken = false;
      this.#owner.pump();
    });
    this.#host.wheel.set(this.#retry, retryMs);
    this.#host.failed(operation, cause);
    this.#owner.pump();
  }
}

/** When the hub looks again at a queued command that was sent: its device had all the time it may take, and more. */
export function dueAfterSending(
  { ttlMs, timeoutMs }: Command,
  acceptedAtMs: number,
  { resultWaitMs }: Settings,
): number {
  return acceptedAtMs + ttlMs + timeoutMs + resultWaitMs;
}
