import { Deque } from '../flow/deque.ts';
import type { DownBody } from '../protocol/frames.ts';
import { PendingCommand } from './pending-command.ts';

/** A numbered frame: a command, from which its frame can be made at any time, or the body of another one. */
export type Numbered = PendingCommand | DownBody;

/** Numbered frames to one device, kept until it acknowledges them, so that a resumed session can go on with them. */
export class Outbox {
  /** Undefined: of a command that is over; its number stays, as it was given away. */
  readonly #frames = new Deque<Numbered | undefined>();
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
    this.#lastSeq++;
    if (frame instanceof PendingCommand) frame.seq = this.#lastSeq;
    return this.#lastSeq;
  }

  /** The command is not to be given again. A device that takes nothing must not hold on to what is long over. */
  letGo(pending: PendingCommand): void {
    const at = pending.seq - this.#firstSeq;
    // Its number may be of another session.
    if (this.#frames.at(at) !== pending) return;
    this.#frames.replace(at, undefined);
    this.#bytes -= bytesOf(pending);
  }

  /** Lets go of everything up to `seq` and calls `onDelivered` for its commands. */
  acknowledge(seq: number, onDelivered: (pending: PendingCommand) => void): void {
    for (let count = seq - this.#lastSeq + this.#frames.size; count > 0; count--) {
      const frame = this.#frames.shift();
      if (!frame) continue;
      this.#bytes -= bytesOf(frame);
      if (frame instanceof PendingCommand) onDelivered(frame);
    }
  }

  /** Whether a device that has everything up to `seq` can be given the rest. */
  reachesBackTo(seq: number): boolean {
    return seq >= this.#firstSeq - 1 && seq <= this.#lastSeq;
  }

  /** What is not acknowledged, oldest first; undefined where an empty frame is enough. */
  unacknowledged(): { readonly seq: number; readonly frame: Numbered | undefined }[] {
    const first = this.#firstSeq;
    return [...this.#frames].map((frame, index) => ({ seq: first + index, frame }));
  }

  /** Of the oldest frame that is not acknowledged. */
  get #firstSeq(): number {
    return this.#lastSeq - this.#frames.size + 1;
  }
}

function bytesOf(frame: Numbered): number {
  if (frame instanceof PendingCommand) return frame.command.payload.value.length;
  return frame.$case === 'cancel' ? frame.value.commandId.length + frame.value.reason.length : 64;
}
