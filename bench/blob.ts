import type { CommandCodec } from '../src/protocol/codec.ts';

/** Bytes as they are: the cost of a codec is the user's own, and the yardsticks have none either. */
export const blob: CommandCodec<Uint8Array> = {
  type: 'signalbox.bench.Blob',
  encode: (value) => value,
  decode: (bytes) => bytes,
};

export function blobOf(bytes: number): Buffer {
  return Buffer.alloc(bytes, 'x');
}
