import { createHash } from 'node:crypto';
import type { ChannelKey } from './channels.ts';
import type { Position } from './event-log.ts';

const version = 1;
/** At most so many bytes for up to 16 channels, so that the text has at most 128 characters. */
const maxBytes = 96;
const hashBytes = 4;

/** What a cursor says. */
export type DecodedCursor =
  /** Positions, in the order of `cursorChannels`. */
  | { readonly kind: 'positions'; readonly positions: readonly Position[] }
  /** A cursor of other channels. */
  | { readonly kind: 'foreign' }
  | { readonly kind: 'malformed' };

/** The channels of a watcher in the order in which its cursor keeps their positions: sorted, each once. */
export function cursorChannels(channels: readonly ChannelKey[]): readonly ChannelKey[] {
  return [...new Set(channels)].sort();
}

/**
 * Writes positions as opaque text for URLs and event ids (base64url): at most 128 characters for up to 16 channels.
 * `fingerprint` is that of the channels, from `channelsFingerprint`.
 *
 * Bytes: version, fingerprint, number of epochs, epochs (the newest, then each one's distance to the one before), and
 * for each channel `seq * number of epochs + which epoch`; all numbers as varints.
 */
export function encodeCursor(fingerprint: Uint8Array, positions: readonly Position[]): string {
  const epochs = [...new Set(positions.map(({ epoch }) => epoch))].sort((a, b) => b - a);
  const bytes: number[] = [version, ...fingerprint];
  pushVarint(bytes, epochs.length);
  for (const [i, epoch] of epochs.entries()) pushVarint(bytes, i === 0 ? epoch : epochs[i - 1]! - epoch);
  for (const { epoch, seq } of positions) pushVarint(bytes, seq * epochs.length + epochs.indexOf(epoch));
  if (bytes.length <= maxBytes || positions.length > 16 || epochs.length === 1)
    return Buffer.from(bytes).toString('base64url');
  // A reader that was cut off again and again while it caught up with several restarts: the oldest positions are given
  // up. Epoch 1 is nobody's, so that the log will answer them with a reset.
  const oldest = epochs.at(-1)!;
  const merged = oldest > 1 ? oldest : epochs.at(-2)!;
  return encodeCursor(
    fingerprint,
    positions.map((position) => (position.epoch <= merged ? { epoch: 1, seq: 0 } : position)),
  );
}

/** Reads a cursor that came from outside; never throws. */
export function decodeCursor(text: string, channels: readonly ChannelKey[]): DecodedCursor {
  if (!/^[A-Za-z0-9_-]{8,1024}$/.test(text)) return { kind: 'malformed' };
  const bytes = Buffer.from(text, 'base64url');
  if (bytes[0] !== version || bytes.toString('base64url') !== text) return { kind: 'malformed' };
  const ordered = cursorChannels(channels);
  if (channelsFingerprint(ordered).compare(bytes, 1, 1 + hashBytes) !== 0) return { kind: 'foreign' };
  const reader = { bytes, at: 1 + hashBytes };
  const epochCount = readVarint(reader);
  if (!(epochCount >= 1 && epochCount <= ordered.length)) return { kind: 'malformed' };
  const epochs: number[] = [];
  for (let i = 0; i < epochCount; i++) {
    const value = readVarint(reader);
    epochs.push(i === 0 ? value : epochs[i - 1]! - value);
  }
  const positions = ordered.map((): Position => {
    const value = readVarint(reader);
    return { epoch: epochs[value % epochCount] ?? -1, seq: Math.floor(value / epochCount) };
  });
  const isSound = positions.every(({ epoch, seq }) => epoch >= 0 && seq >= 0) && reader.at === bytes.length;
  return isSound ? { kind: 'positions', positions } : { kind: 'malformed' };
}

/** Tells one set of channels (in their order) from another. */
export function channelsFingerprint(channels: readonly ChannelKey[]): Buffer {
  return createHash('sha256').update(channels.join('\n')).digest().subarray(0, hashBytes);
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
}

/** NaN where there is no sound number. */
function readVarint(reader: { readonly bytes: Uint8Array; at: number }): number {
  let value = 0;
  let factor = 1;
  for (;;) {
    const byte = reader.bytes[reader.at++];
    if (byte === undefined) return Number.NaN;
    value += (byte & 127) * factor;
    if (value > Number.MAX_SAFE_INTEGER) return Number.NaN;
    if (byte < 128) return value;
    factor *= 128;
  }
}
