import { Deque } from '../flow/deque.ts';
import type { DownBody } from '../protocol/frames.ts';
import { PendingCommand } from './pending-command.ts';

/** A numbered frame: a command, from which its frame can be made at any time, or the body of another one. */
export type Numbered = PendingCommand | DownBody;

/** Numbered frames to one device, kept until it acknowledges them, so that a resumed session can go on with them. */
export class Outbox {
  readonly #frames = new Deque<Numbered>();
  #lastSeq = 0;
  #bytes = 0;

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Frames that are not acknowledged. */
  get size(): number {
    return this.#frames.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Numbers and keeps a frame. */
  add(frame: Numbered): number {
    this.#frames.push(frame);
    this.#bytes += bytesOf(frame);
    return ++this.#lastSeq;
  }

  /** Lets go of everything up to `seq` and calls `onDelivered` for its commands. */
  acknowledge(seq: number, onDelivered: (pending: PendingCommand) => void): void {
    for (let count = seq - this.#lastSeq + this.#frames.size; count > 0; count--) {
      const frame = this.#frames.shift()!;
      this.#bytes -= bytesOf(frame);
      if (frame instanceof PendingCommand) onDelivered(frame);
    }
  }

  /** Whether a device that has everything up to `seq` can be given the rest. */
  reachesBackTo(seq: number): boolean {
    return seq >= this.#lastSeq - this.#frames.size && seq <= this.#lastSeq;
  }

  /** What is not acknowledged, oldest first. */
  unacknowledged(): { readonly seq: number; readonly frame: Numbered }[] {
    const first = this.#lastSeq - this.#frames.size + 1;
    return [...this.#frames].map((frame, index) => ({ seq: first + index, frame }));
  }
}

function bytesOf(frame: Numbered): number {
  if (frame instanceof PendingCommand) return frame.command.payload.value.length;
  return frame.$case === 'cancel' ? frame.value.commandId.length + frame.value.reason.length : 64;
}
