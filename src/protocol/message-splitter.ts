import { HubError } from '../errors.ts';

/** What gRPC puts in front of a message, in bytes: a flag and a length. */
export const messageRoom = 5;

/** Writes what stands in front of a message into the room that was left for it. */
export function writeMessageHeader(message: Buffer): void {
  message[0] = 0;
  message.writeUInt32BE(message.length - messageRoom, 1);
}

/** A copy of `bytes` behind the room for its header. */
export function withMessageRoom(bytes: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(messageRoom + bytes.length);
  message.set(bytes, messageRoom);
  return message;
}

/**
 * Finds the messages in what a gRPC stream brings: each has a flag, a length of four bytes, and its bytes. A message may be
 * a view of what it came with: whoever keeps bytes of it copies them.
 */
export class MessageSplitter {
  readonly #maxBytes: number;
  readonly #each: (message: Buffer) => void;
  /** The begun message with its header, of which `#have` bytes are there. Grows with what comes, not with what is claimed. */
  #begun: Buffer | undefined;
  #have = 0;

  /** `maxBytes`: of one message; a longer one is an error. */
  constructor(maxBytes: number, each: (message: Buffer) => void) {
    this.#maxBytes = maxBytes;
    this.#each = each;
  }

  /** Whether the last message is not complete. */
  get isInside(): boolean {
    return this.#have > 0;
  }

  /** Throws `resource-exhausted` for a message over the limit, `invalid-argument` for a compressed one. */
  take(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#have > 0) {
        at = this.#goOn(chunk, at);
        continue;
      }
      const end =
        chunk.length - at < messageRoom ? Number.POSITIVE_INFINITY : at + messageRoom + this.#length(chunk, at);
      if (end > chunk.length) {
        this.#keep(chunk, at, chunk.length);
        return;
      }
      const from = at + messageRoom;
      at = end;
      this.#each(chunk.subarray(from, end));
    }
  }

  /** Adds to the begun message; where in the chunk to go on. */
  #goOn(chunk: Buffer, at: number): number {
    if (this.#have < messageRoom) {
      const to = Math.min(chunk.length, at + messageRoom - this.#have);
      this.#keep(chunk, at, to);
      if (this.#have < messageRoom) return to;
      at = to;
    }
    const size = messageRoom + this.#length(this.#begun!, 0);
    const to = Math.min(chunk.length, at + size - this.#have);
    this.#keep(chunk, at, to);
    if (this.#have === size) {
      const message = this.#begun!.subarray(messageRoom, size);
      this.#begun = undefined;
      this.#have = 0;
      this.#each(message);
    }
    return to;
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    const needed = this.#have + to - from;
    if (this.#begun === undefined || this.#begun.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#have, 64));
      this.#begun?.copy(larger, 0, 0, this.#have);
      this.#begun = larger;
    }
    chunk.copy(this.#begun, this.#have, from, to);
    this.#have = needed;
  }

  #length(bytes: Buffer, at: number): number {
    if (bytes[at] !== 0)
      throw new HubError('invalid-argument', `a message has the flag ${bytes[at]}, but no encoding was agreed on`);
    const length = bytes.readUInt32BE(at + 1);
    if (length > this.#maxBytes)
      throw new HubError('resource-exhausted', `Received message larger than max (${length} vs. ${this.#maxBytes})`);
    return length;
  }
}
