/** Bytes that are copied together. Small, as one copy that is still needed keeps all of it. */
const slabBytes = 4096;
const largestInSlab = 512;

let slab = new Uint8Array();
let at = 0;

/**
 * A copy of `bytes` for whoever keeps them. What comes from a socket or from Node's pool is a view of a buffer of 64 KiB,
 * which would be kept with it.
 */
export function keptBytes(bytes: Uint8Array): Uint8Array {
  const { length } = bytes;
  if (length === 0) return noBytes;
  // Large ones are most of their buffer, or worth one of their own.
  if (length > largestInSlab) return bytes.buffer.byteLength - length <= length ? bytes : new Uint8Array(bytes);
  if (at + length > slab.length) {
    slab = new Uint8Array(slabBytes);
    at = 0;
  }
  const copy = slab.subarray(at, at + length);
  copy.set(bytes);
  at += length;
  return copy;
}

const noBytes = new Uint8Array();
