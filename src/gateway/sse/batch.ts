import { wsFramesOf } from '../ws/messages.ts';

/** Bytes for many watchers: made once, framed once for HTTP/1.1, and the same Buffer for everyone. */
export class Batch {
  readonly bytes: Buffer;
  #chunk: Buffer | undefined;
  #messages: Buffer | undefined;

  constructor(parts: readonly Buffer[]) {
    this.bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** As one chunk of a chunked HTTP/1.1 body. */
  get chunk(): Buffer {
    this.#chunk ??= Buffer.concat([Buffer.from(`${this.bytes.length.toString(16)}\r\n`), this.bytes, lineEnd]);
    return this.#chunk;
  }

  /** As WebSocket frames. */
  get messages(): Buffer {
    this.#messages ??= wsFramesOf(this.bytes);
    return this.#messages;
  }
}

const lineEnd = Buffer.from('\r\n');
