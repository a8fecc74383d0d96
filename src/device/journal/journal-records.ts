import { crc32 } from 'node:zlib';

/** One line of the journal's file. */
export type JournalRecord = { readonly kind: 'lineage'; readonly id: string } | EntryRecord;

/** One that is about a command. */
export type EntryRecord =
  | { readonly kind: 'begin'; readonly id: string; readonly idempotent: boolean }
  | { readonly kind: 'finish'; readonly id: string; readonly result: Uint8Array }
  | { readonly kind: 'retire'; readonly id: string }
  /** Only in a compacted file: an acknowledged entry whose result was dropped. */
  | { readonly kind: 'forgotten'; readonly id: string; readonly idempotent: boolean };

// magic (1), length of the rest (4), crc32 of what follows (4), synced (6), kind (1), id length (2), id, bytes
const headBytes = 9;
const fixedBytes = headBytes + 9;
const magic = 0xb7;
/** Larger than any frame of a hub; a length beyond it is damage. */
const maxRecordBytes = 256 * 1024 * 1024;

const codes = { lineage: 1, begin: 2, beginIdempotent: 3, finish: 4, retire: 5, forgotten: 6, forgottenIdempotent: 7 };

/**
 * Encodes a record. `syncedBytes` is how much of the file was certainly on disk when this was written: damage before
 * that is real damage, damage after it is only a write that a crash cut off.
 */
export function encodeRecord(record: JournalRecord, syncedBytes: number): Buffer {
  const id = Buffer.from(record.id);
  const result = record.kind === 'finish' ? record.result : undefined;
  const bytes = Buffer.alloc(fixedBytes + id.length + (result?.length ?? 0));
  bytes[0] = magic;
  bytes.writeUInt32LE(bytes.length - headBytes, 1);
  bytes.writeUIntLE(syncedBytes, headBytes, 6);
  bytes[headBytes + 6] = codeOf(record);
  bytes.writeUInt16LE(id.length, headBytes + 7);
  id.copy(bytes, fixedBytes);
  if (result) bytes.set(result, fixedBytes + id.length);
  bytes.writeUInt32LE(crc32(bytes.subarray(headBytes)), 5);
  return bytes;
}

export interface ReadRecord {
  readonly record: JournalRecord;
  readonly syncedBytes: number;
  /** Where the next one begins. */
  readonly end: number;
}

/** The record at `offset`, or undefined if there is no whole, undamaged one. */
export function readRecord(file: Buffer, offset: number): ReadRecord | undefined {
  if (offset + fixedBytes > file.length || file[offset] !== magic) return undefined;
  const length = file.readUInt32LE(offset + 1);
  const end = offset + headBytes + length;
  if (length < fixedBytes - headBytes || length > maxRecordBytes || end > file.length) return undefined;
  const content = file.subarray(offset + headBytes, end);
  if (crc32(content) !== file.readUInt32LE(offset + 5)) return undefined;
  const idLength = content.readUInt16LE(7);
  if (9 + idLength > content.length) return undefined;
  const id = content.toString('utf8', 9, 9 + idLength);
  const record = recordOf(content[6] as number, id, content.subarray(9 + idLength));
  return record && { record, syncedBytes: content.readUIntLE(0, 6), end };
}

/** Where, after `offset`, a whole record says that the bytes at `offset` were on disk; undefined: nowhere. */
export function findProofOfDamage(file: Buffer, offset: number): number | undefined {
  for (let at = file.indexOf(magic, offset + 1); at >= 0; at = file.indexOf(magic, at + 1)) {
    const read = readRecord(file, at);
    if (read && read.syncedBytes > offset) return at;
  }
  return undefined;
}

function codeOf(record: JournalRecord): number {
  switch (record.kind) {
    case 'begin':
      return record.idempotent ? codes.beginIdempotent : codes.begin;
    case 'forgotten':
      return record.idempotent ? codes.forgottenIdempotent : codes.forgotten;
    default:
      return codes[record.kind];
  }
}

function recordOf(code: number, id: string, rest: Buffer): JournalRecord | undefined {
  switch (code) {
    case codes.lineage:
      return { kind: 'lineage', id };
    case codes.begin:
    case codes.beginIdempotent:
      return { kind: 'begin', id, idempotent: code === codes.beginIdempotent };
    case codes.finish:
      // A copy: the file's buffer would stay in memory for the sake of one result.
      return { kind: 'finish', id, result: Uint8Array.from(rest) };
    case codes.retire:
      return { kind: 'retire', id };
    case codes.forgotten:
    case codes.forgottenIdempotent:
      return { kind: 'forgotten', id, idempotent: code === codes.forgottenIdempotent };
    default:
      return undefined;
  }
}
