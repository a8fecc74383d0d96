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

/** `room`: bytes to be left free in front, for whoever has to put something there. Default: 0. */
export function encodeDown(frame: DownFrame, room = 0): Buffer {
  const command =
    frame.body?.$case === 'command' ? encodeCommand(frame.seq, frame.ack, frame.body.value, room) : undefined;
  if (command !== undefined) return command;
  const bytes = encodeMessage(ConnectResponse, frame);
  if (room === 0) return asBuffer(bytes);
  const out = Buffer.allocUnsafe(room + bytes.length);
  out.set(bytes, room);
  return out;
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

/** Where the hand-written code stands in its bytes. It gives up (`isOdd`) on anything it does not expect. */
let at = 0;
let isOdd = false;

/** Field number and wire type, as one byte; enough for fields 1 to 15. */
const varintField = (field: number): number => field << 3;
const bytesField = (field: number): number => (field << 3) | 2;

/** Undefined where a text is not plain ASCII, which the hub's own checks do not let through: the generated code does it. */
function encodeCommand(seq: number, ack: number, command: DeviceCommand, room: number): Buffer | undefined {
  const { id, payload, startWithinMs, finishWithinMs, idempotent, orderingKey, traceparent } = command;
  const payloadSize = payload === undefined ? 0 : sizeOfField(payload.type.length) + sizeOfField(payload.value.length);
  const commandSize =
    sizeOfField(id.length) +
    (payload === undefined ? 0 : 1 + sizeOfVarint(payloadSize) + payloadSize) +
    sizeOfNumber(startWithinMs) +
    sizeOfNumber(finishWithinMs) +
    (idempotent ? 2 : 0) +
    sizeOfField(orderingKey.length) +
    sizeOfField(traceparent.length);
  const size = sizeOfNumber(seq) + sizeOfNumber(ack) + 1 + sizeOfVarint(commandSize) + commandSize;
  const out = Buffer.allocUnsafe(room + size);
  isOdd = false;
  at = room;
  writeNumber(out, varintField(1), seq);
  writeNumber(out, varintField(2), ack);
  out[at++] = bytesField(4);
  writeVarint(out, commandSize);
  writeText(out, bytesField(1), id);
  if (payload !== undefined) {
    out[at++] = bytesField(2);
    writeVarint(out, payloadSize);
    writeText(out, bytesField(1), payload.type);
    if (payload.value.length > 0) {
      out[at++] = bytesField(2);
      writeVarint(out, payload.value.length);
      out.set(payload.value, at);
      at += payload.value.length;
    }
  }
  writeNumber(out, varintField(3), startWithinMs);
  writeNumber(out, varintField(4), finishWithinMs);
  if (idempotent) {
    out[at++] = varintField(5);
    out[at++] = 1;
  }
  writeText(out, bytesField(6), orderingKey);
  writeText(out, bytesField(7), traceparent);
  return isOdd ? undefined : out;
}

function sizeOfVarint(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

const sizeOfNumber = (value: number): number => (value === 0 ? 0 : 1 + sizeOfVarint(value));

const sizeOfField = (length: number): number => (length === 0 ? 0 : 1 + sizeOfVarint(length) + length);

function writeVarint(out: Buffer, value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    out[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[at++] = rest;
}

function writeNumber(out: Buffer, tag: number, value: number): void {
  if (value === 0) return;
  out[at++] = tag;
  writeVarint(out, value);
}

function writeText(out: Buffer, tag: number, text: string): void {
  if (text === '') return;
  out[at++] = tag;
  writeVarint(out, text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) isOdd = true;
    out[at++] = code;
  }
}

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
        if (inner === bytesField(1)) payload.type = readType(bytes, payloadEnd);
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

/** Types are few: most often it is the one that was read before. */
let lastType = '';

function readType(bytes: Buffer, limit: number): string {
  const end = readEnd(bytes, limit);
  const from = at;
  at = end;
  if (end - from === lastType.length) {
    let same = 0;
    while (same < lastType.length && bytes[from + same] === lastType.charCodeAt(same)) same++;
    if (same === lastType.length) return lastType;
  }
  lastType = bytes.toString('utf8', from, end);
  return lastType;
}
