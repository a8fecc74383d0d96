import { encodeMessage } from './codec.ts';
import { ConnectRequest, ConnectResponse, type DeviceCommand, type Result } from './gen/signalbox/v1/device.ts';

/** A frame from a device to the hub, as generated from `device.proto`. */
export type UpFrame = ConnectRequest;
/** A frame from the hub to a device. */
export type DownFrame = ConnectResponse;
export type UpBody = NonNullable<UpFrame['body']>;
export type DownBody = NonNullable<DownFrame['body']>;

/** Version of the stream protocol; `hello` with another one is refused. */
export const protocolVersion = 1;

export function encodeUp(frame: UpFrame): Buffer {
  return asBuffer(encodeMessage(ConnectRequest, frame));
}

export function encodeDown(frame: DownFrame): Buffer {
  if (frame.body?.$case === 'command') return encodeCommand(frame.seq, frame.ack, frame.body.value);
  return asBuffer(encodeMessage(ConnectResponse, frame));
}

/** Throws an `Error` on bytes that are not a frame. */
export function decodeUp(bytes: Uint8Array): UpFrame {
  return decodeResult(asBuffer(bytes)) ?? ConnectRequest.decode(bytes);
}

/** Throws an `Error` on bytes that are not a frame. */
export function decodeDown(bytes: Uint8Array): DownFrame {
  return ConnectResponse.decode(bytes);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

// Every live command is one command frame down and one result frame up, so these two are written by hand: a third of
// the time of the generated code, and one piece of a pooled buffer. Tests hold them to the generated code, byte by byte.

/** Field number and wire type, as one byte; enough for fields 1 to 15. */
const varintField = (field: number): number => field << 3;
const bytesField = (field: number): number => (field << 3) | 2;

function encodeCommand(seq: number, ack: number, command: DeviceCommand): Buffer {
  const { id, payload, startWithinMs, finishWithinMs, idempotent, orderingKey, traceparent } = command;
  const payloadSize = payload === undefined ? 0 : sizeOfText(payload.type) + sizeOfBytes(payload.value);
  const commandSize =
    sizeOfText(id) +
    (payload === undefined ? 0 : 1 + sizeOfVarint(payloadSize) + payloadSize) +
    sizeOfNumber(startWithinMs) +
    sizeOfNumber(finishWithinMs) +
    (idempotent ? 2 : 0) +
    sizeOfText(orderingKey) +
    sizeOfText(traceparent);
  const size = sizeOfNumber(seq) + sizeOfNumber(ack) + 1 + sizeOfVarint(commandSize) + commandSize;
  const out = Buffer.allocUnsafe(size);
  let at = writeNumber(out, 0, varintField(1), seq);
  at = writeNumber(out, at, varintField(2), ack);
  out[at++] = bytesField(4);
  at = writeVarint(out, at, commandSize);
  at = writeText(out, at, bytesField(1), id);
  if (payload !== undefined) {
    out[at++] = bytesField(2);
    at = writeVarint(out, at, payloadSize);
    at = writeText(out, at, bytesField(1), payload.type);
    if (payload.value.length > 0) {
      out[at++] = bytesField(2);
      at = writeVarint(out, at, payload.value.length);
      out.set(payload.value, at);
      at += payload.value.length;
    }
  }
  at = writeNumber(out, at, varintField(3), startWithinMs);
  at = writeNumber(out, at, varintField(4), finishWithinMs);
  if (idempotent) {
    out[at++] = varintField(5);
    out[at++] = 1;
  }
  at = writeText(out, at, bytesField(6), orderingKey);
  writeText(out, at, bytesField(7), traceparent);
  return out;
}

function sizeOfVarint(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

const sizeOfNumber = (value: number): number => (value === 0 ? 0 : 1 + sizeOfVarint(value));

function sizeOfText(text: string): number {
  if (text === '') return 0;
  const length = Buffer.byteLength(text);
  return 1 + sizeOfVarint(length) + length;
}

const sizeOfBytes = ({ length }: Uint8Array): number => (length === 0 ? 0 : 1 + sizeOfVarint(length) + length);

function writeVarint(out: Buffer, at: number, value: number): number {
  let rest = value;
  let to = at;
  while (rest >= 0x80) {
    out[to++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[to++] = rest;
  return to;
}

function writeNumber(out: Buffer, at: number, tag: number, value: number): number {
  if (value === 0) return at;
  out[at] = tag;
  return writeVarint(out, at + 1, value);
}

function writeText(out: Buffer, at: number, tag: number, text: string): number {
  if (text === '') return at;
  out[at] = tag;
  const length = Buffer.byteLength(text);
  const from = writeVarint(out, at + 1, length);
  out.write(text, from, length, 'utf8');
  return from + length;
}

/** Where the hand-written decoding stands. It gives up (`isOdd`) on anything it does not expect. */
let at = 0;
let isOdd = false;

/** The frame if it is a plain result; undefined for every other, and for everything odd: the generated code decides. */
function decodeResult(bytes: Buffer): UpFrame | undefined {
  at = 0;
  isOdd = false;
  let seq = 0;
  let ack = 0;
  while (at < bytes.length) {
    const tag = bytes[at++];
    if (tag === varintField(1)) seq = readVarint(bytes, bytes.length);
    else if (tag === varintField(2)) ack = readVarint(bytes, bytes.length);
    else if (tag === bytesField(6)) {
      const value = readResult(bytes);
      // Nothing stands behind a body in what our libraries write.
      if (isOdd || at !== bytes.length || value === undefined) return undefined;
      return { seq, ack, body: { $case: 'result', value } };
    } else return undefined;
    if (isOdd) return undefined;
  }
  return undefined;
}

function readResult(bytes: Buffer): Result | undefined {
  const end = readEnd(bytes, bytes.length);
  const result: Result = { commandId: '', state: 0, payload: undefined, error: undefined };
  while (at < end && !isOdd) {
    const tag = bytes[at++];
    if (tag === bytesField(1)) result.commandId = readText(bytes, end);
    else if (tag === varintField(2)) result.state = readVarint(bytes, end) as Result['state'];
    else if (tag === bytesField(3)) {
      const payloadEnd = readEnd(bytes, end);
      const payload = { type: '', value: noBytes as Uint8Array };
      while (at < payloadEnd && !isOdd) {
        const inner = bytes[at++];
        if (inner === bytesField(1)) payload.type = readText(bytes, payloadEnd);
        else if (inner === bytesField(2)) {
          const to = readEnd(bytes, payloadEnd);
          payload.value = bytes.subarray(at, to);
          at = to;
        } else return undefined;
      }
      result.payload = payload;
    } else return undefined;
  }
  return at === end ? result : undefined;
}

const noBytes = Buffer.alloc(0);

function readVarint(bytes: Buffer, end: number): number {
  let value = 0;
  for (let shift = 0; shift < 28 && at < end; shift += 7) {
    const byte = bytes[at++]!;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  // 28 bits are plenty for lengths and for all but the longest sessions.
  isOdd = true;
  return 0;
}

/** Reads a length; where what it measures ends. */
function readEnd(bytes: Buffer, limit: number): number {
  const end = readVarint(bytes, limit) + at;
  if (end > limit) isOdd = true;
  return isOdd ? limit : end;
}

function readText(bytes: Buffer, limit: number): string {
  const end = readEnd(bytes, limit);
  const text = bytes.toString('utf8', at, end);
  at = end;
  return text;
}
