import type { DownBody } from '../protocol/frames.ts';
import type { PendingCommand } from './pending-command.ts';

interface Entry {
  readonly seq: number;
  readonly body: DownBody;
  readonly bytes: number;
  readonly pending: PendingCommand | undefined;
}

/** Numbered frames to one device, kept until it acknowledges them, so that a resumed session can go on with them. */
export class Outbox {
  #entries: Entry[] = [];
  #head = 0;
  #lastSeq = 0;
  #bytes = 0;

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Frames that are not acknowledged. */
  get size(): number {
    return this.#entries.length - this.#head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Numbers and keeps a frame. */
  add(body: DownBody, bytes: number, pending?: PendingCommand): number {
    const seq = ++this.#lastSeq;
    this.#entries.push({ seq, body, bytes, pending });
    this.#bytes += bytes;
    return seq;
  }

  /** Lets go of everything up to `seq` and calls `onDelivered` for its commands. */
  acknowledge(seq: number, onDelivered: (pending: PendingCommand) => void): void {
    while (this.#head < this.#entries.length) {
      const entry = this.#entries[this.#head]!;
      if (entry.seq > seq) break;
      this.#head++;
      this.#bytes -= entry.bytes;
      if (entry.pending) onDelivered(entry.pending);
    }
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head > 256) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Whether a device that has everything up to `seq` can be given the rest. */
  reachesBackTo(seq: number): boolean {
    const oldest = this.#head < this.#entries.length ? this.#entries[this.#head]!.seq : this.#lastSeq + 1;
    return seq >= oldest - 1 && seq <= this.#lastSeq;
  }

  /** What is not acknowledged, oldest first. */
  *unacknowledged(): IterableIterator<Readonly<Pick<Entry, 'seq' | 'body' | 'pending'>>> {
    for (let i = this.#head; i < this.#entries.length; i++) yield this.#entries[i]!;
  }
}
