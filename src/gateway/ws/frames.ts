import { createHash } from 'node:crypto';

// The part of RFC 6455 that a server needs which mostly speaks.

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** One unfragmented, unmasked frame. */
export function wsFrame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const header =
    length < 126
      ? Buffer.from([0x80 | opcode, length])
      : length < 65_536
        ? Buffer.from([0x80 | opcode, 126, length >> 8, length & 255])
        : Buffer.from([
            0x80 | opcode,
            127,
            0,
            0,
            0,
            0,
            length >>> 24,
            (length >> 16) & 255,
            (length >> 8) & 255,
            length & 255,
          ]);
  return Buffer.concat([header, payload]);
}

export function closeFrame(code: number, reason = ''): Buffer {
  const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
  payload.writeUInt16BE(code);
  payload.write(reason, 2);
  return wsFrame(opcodes.close, payload.subarray(0, 125));
}

export function acceptKey(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

/** Control frames have at most 125 bytes, and nothing else of a watcher is of interest: longer ones end it. */
const maxPayload = 4096;

export interface PeerFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Cuts what comes in into frames. A fault is a close code, and the last thing that it says. */
export class FrameParser {
  #pending: Buffer = Buffer.alloc(0);

  /** The frames that are complete now. */
  push(chunk: Buffer): { readonly frames: PeerFrame[]; readonly fault?: number } {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: PeerFrame[] = [];
    for (;;) {
      const bytes = this.#pending;
      if (bytes.length < 2) return { frames };
      const opcode = bytes[0]! & 15;
      // Reserved bits belong to extensions, of which there are none; a browser masks what it sends.
      if ((bytes[0]! & 0x70) !== 0 || (bytes[1]! & 0x80) === 0) return { frames, fault: 1002 };
      if (opcode > 10 || (opcode > 2 && opcode < 8)) return { frames, fault: 1002 };
      let length = bytes[1]! & 127;
      let at = 2;
      if (opcode >= 8 && (length > 125 || (bytes[0]! & 0x80) === 0)) return { frames, fault: 1002 };
      if (length === 127) return { frames, fault: 1009 };
      if (length === 126) {
        if (bytes.length < 4) return { frames };
        length = bytes.readUInt16BE(2);
        at = 4;
      }
      if (length > maxPayload) return { frames, fault: 1009 };
      if (bytes.length < at + 4 + length) return { frames };
      const mask = bytes.subarray(at, at + 4);
      const payload = Buffer.from(bytes.subarray(at + 4, at + 4 + length));
      for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i & 3]!;
      frames.push({ opcode, payload });
      this.#pending = bytes.subarray(at + 4 + length);
    }
  }
}
