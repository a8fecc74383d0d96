import { HubError } from '../errors.ts';
import type { ArchivedEvent } from '../events/event-archive.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import { uniqueId } from '../flow/unique-id.ts';
import type { ArchiveFact } from './options.ts';
import { refusedOf, statusOf, troubleOf } from './requests.ts';

/** An event as it is handed to the archive. */
export type KeptEvent = Omit<ArchivedEvent, 'epoch' | 'seq'> & { readonly tenant: string };

export interface BulkSenderOptions {
  readonly maxWaiting: number;
  readonly maxWaitingBytes: number;
  readonly flushMs: number;
  readonly bulkSize: number;
  readonly clock: Clock;
  readonly observe: (fact: ArchiveFact) => void;
  /** Sends one bulk request, and resolves to its answer. */
  readonly send: (body: string) => Promise<Record<string, unknown>>;
}

/** Events on their way: many in one request, again until it is answered, and beyond its limits dropped loudly. */
export class BulkSender {
  readonly #options: BulkSenderOptions;
  readonly #waiting: { line: string; bytes: number }[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #isClosed = false;
  #flushing: Promise<void> | undefined;
  #letGo: (() => void) | undefined;
  #wake: (() => void) | undefined;

  constructor(options: BulkSenderOptions) {
    this.#options = options;
  }

  keep({ tenant, channel, type, atMs, data }: KeptEvent): void {
    const { maxWaiting, maxWaitingBytes, bulkSize, flushMs, clock } = this.#options;
    // Its id makes a bulk request that is sent again add nothing.
    const id = uniqueId();
    // What no calendar has becomes 1970, as everywhere.
    const at = new Date(Math.abs(atMs) <= 8.64e15 ? atMs : 0).toISOString();
    const document = { '@timestamp': at, id, tenant, channel, type, data };
    const line = `${JSON.stringify({ create: { _id: id } })}\n${JSON.stringify(document)}\n`;
    const bytes = line.length * 2;
    if (this.#isClosed || this.#waiting.length >= maxWaiting || this.#waitingBytes + bytes > maxWaitingBytes) {
      this.#dropped++;
      return;
    }
    this.#waiting.push({ line, bytes });
    this.#waitingBytes += bytes;
    if (this.#waiting.length >= bulkSize) void this.flush();
    else this.#letGo ??= clock.after(flushMs, () => void this.flush());
  }

  flush(): Promise<void> {
    this.#letGo?.();
    this.#letGo = undefined;
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Sends what waits, each request once; what cannot be sent is lost, and told as dropped. */
  close(): Promise<void> {
    this.#isClosed = true;
    this.#wake?.();
    return this.flush();
  }

  async #flushAll(): Promise<void> {
    const { bulkSize, clock, observe, send } = this.#options;
    const backoff = new Backoff({ minMs: 100, maxMs: 10_000 });
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, bulkSize);
      try {
        const refused = refusedOf(await send(batch.map(({ line }) => line).join('')));
        if (refused.again) throw new HubError('unavailable', 'OpenSearch has too much to do', { retryAfterMs: 1000 });
        this.#forget(batch);
        if (refused.count > 0) observe({ kind: 'archive-dropped', count: refused.count, reason: refused.reason });
        backoff.reset();
      } catch (error) {
        observe({ kind: 'archive-failed', operation: 'send events', error: troubleOf(error) });
        // The same request would be refused again, and for ever.
        if ([400, 413].includes(statusOf(error))) {
          this.#forget(batch);
          this.#dropped += batch.length;
        }
        if (this.#isClosed) {
          this.#dropped += this.#waiting.length;
          this.#forget([...this.#waiting]);
          break;
        }
        this.#tellDropped();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          clock.after(backoff.next(), resolve);
        });
      }
    }
    this.#tellDropped();
  }

  #forget(batch: readonly { readonly bytes: number }[]): void {
    this.#waiting.splice(0, batch.length);
    for (const { bytes } of batch) this.#waitingBytes -= bytes;
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    this.#options.observe({
      kind: 'archive-dropped',
      count: this.#dropped,
      reason: 'too many events wait for OpenSearch, or it refuses them, or is away at the end',
    });
    this.#dropped = 0;
  }
}
