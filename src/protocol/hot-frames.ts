import { CommandState } from './gen/signalbox/v1/command.ts';
import type { ConnectRequest, ConnectResponse, DeviceCommand, Result } from './gen/signalbox/v1/device.ts';

// Every live command is one command frame down and one result frame up, so these are written and read by hand: a third of
// the time of the generated code, and one piece of a pooled buffer. Whatever they do not expect they leave to the generated
// code, and tests hold them to it, byte by byte.

/** Where the code stands in its bytes. It gives up (`isOdd`) on anything it does not expect. */
let at = 0;
let isOdd = false;

/** Field number and wire type, as one byte; enough for fields 1 to 15. */
const varintField = (field: number): number => field << 3;
const bytesField = (field: number): number => (field << 3) | 2;

/** A command frame behind `room` free bytes. Undefined where a text is not plain ASCII, which the hub's checks do not let through. */
export function encodeCommand(seq: number, ack: number, command: DeviceCommand, room: number): Buffer | undefined {
  const { id, payload, startWithinMs, finishWithinMs, idempotent, orderingKey, traceparent } = command;
  const payloadSize = payload === undefined ? 0 : sizeOfPayload(payload);
  const commandSize =
    sizeOfField(id.length) +
    (payload === undefined ? 0 : 1 + sizeOfVarint(payloadSize) + payloadSize) +
    sizeOfNumber(startWithinMs) +
    sizeOfNumber(finishWithinMs) +
    (idempotent ? 2 : 0) +
    sizeOfField(orderingKey.length) +
    sizeOfField(traceparent.length);
  const out = Buffer.allocUnsafe(
    room + sizeOfNumber(seq) + sizeOfNumber(ack) + 1 + sizeOfVarint(commandSize) + commandSize,
  );
  begin(room);
  writeNumber(out, varintField(1), seq);
  writeNumber(out, varintField(2), ack);
  out[at++] = bytesField(4);
  writeVarint(out, commandSize);
  writeText(out, bytesField(1), id);
  if (payload !== undefined) writePayload(out, bytesField(2), payload, payloadSize);
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

/** A good result. Undefined where a text is not plain ASCII. */
export function encodeSuccess(commandId: string, payload: { readonly type: string; readonly value: Uint8Array }) {
  const payloadSize = sizeOfPayload(payload);
  const out = Buffer.allocUnsafe(sizeOfField(commandId.length) + 2 + 1 + sizeOfVarint(payloadSize) + payloadSize);
  begin(0);
  writeText(out, bytesField(1), commandId);
  writeNumber(out, varintField(2), CommandState.COMMAND_STATE_SUCCEEDED);
  writePayload(out, bytesField(3), payload, payloadSize);
  return isOdd ? undefined : out;
}

/** A frame up around a body that is encoded already; `tag` is that of the body's field, see `upTag`. */
export function encodeEnvelope(seq: number, ack: number, tag: number, body: Uint8Array | undefined): Buffer {
  const bodySize = body === undefined ? 0 : 1 + sizeOfVarint(body.length) + body.length;
  const out = Buffer.allocUnsafe(sizeOfNumber(seq) + sizeOfNumber(ack) + bodySize);
  begin(0);
  writeNumber(out, varintField(1), seq);
  writeNumber(out, varintField(2), ack);
  if (body !== undefined) {
    out[at++] = tag;
    writeVarint(out, body.length);
    out.set(body, at);
  }
  return out;
}

/** The tag of a body's field in a frame up. */
export const upTag = bytesField;

/** The frame if it is a plain result; undefined for every other, and for everything odd. */
export function decodeResult(bytes: Buffer): ConnectRequest | undefined {
  begin(0);
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

/** The frame if it is a plain command; undefined for every other, and for everything odd. */
export function decodeCommand(bytes: Buffer): ConnectResponse | undefined {
  begin(0);
  let seq = 0;
  let ack = 0;
  while (at < bytes.length) {
    const tag = bytes[at++];
    if (tag === varintField(1)) seq = readVarint(bytes, bytes.length);
    else if (tag === varintField(2)) ack = readVarint(bytes, bytes.length);
    else if (tag === bytesField(4)) {
      const value = readCommand(bytes);
      if (isOdd || at !== bytes.length || value === undefined) return undefined;
      return { seq, ack, body: { $case: 'command', value } };
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
    else if (tag === bytesField(3)) result.payload = readPayload(bytes, end);
    else return undefined;
  }
  return at === end ? result : undefined;
}

function readCommand(bytes: Buffer): DeviceCommand | undefined {
  const end = readEnd(bytes, bytes.length);
  const command: DeviceCommand = {
    id: '',
    payload: undefined,
    startWithinMs: 0,
    finishWithinMs: 0,
    idempotent: false,
    orderingKey: '',
    traceparent: '',
  };
  while (at < end && !isOdd) {
    const tag = bytes[at++];
    if (tag === bytesField(1)) command.id = readText(bytes, end);
    else if (tag === bytesField(2)) command.payload = readPayload(bytes, end);
    else if (tag === varintField(3)) command.startWithinMs = readVarint(bytes, end);
    else if (tag === varintField(4)) command.finishWithinMs = readVarint(bytes, end);
    else if (tag === varintField(5)) command.idempotent = readVarint(bytes, end) !== 0;
    else if (tag === bytesField(6)) command.orderingKey = readText(bytes, end);
    else if (tag === bytesField(7)) command.traceparent = readText(bytes, end);
    else return undefined;
  }
  return at === end ? command : undefined;
}

function readPayload(bytes: Buffer, limit: number): { type: string; value: Uint8Array } {
  const end = readEnd(bytes, limit);
  const payload = { type: '', value: noBytes as Uint8Array };
  while (at < end && !isOdd) {
    const tag = bytes[at++];
    if (tag === bytesField(1)) payload.type = readType(bytes, end);
    else if (tag === bytesField(2)) {
      const to = readEnd(bytes, end);
      payload.value = bytes.subarray(at, to);
      at = to;
    } else isOdd = true;
  }
  if (at !== end) isOdd = true;
  return payload;
}

const noBytes = Buffer.alloc(0);

function begin(from: number): void {
  at = from;
  isOdd = false;
}

function sizeOfVarint(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

const sizeOfNumber = (value: number): number => (value === 0 ? 0 : 1 + sizeOfVarint(value));

const sizeOfField = (length: number): number => (length === 0 ? 0 : 1 + sizeOfVarint(length) + length);

const sizeOfPayload = ({ type, value }: { readonly type: string; readonly value: Uint8Array }): number =>
  sizeOfField(type.length) + sizeOfField(value.length);

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
  // What a loop changes stays in the function: a variable of the module would be written to memory for each character.
  const from = at;
  let all = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    all |= code;
    out[from + i] = code;
  }
  if (all >= 0x80) isOdd = true;
  at += text.length;
}

function writePayload(
  out: Buffer,
  tag: number,
  { type, value }: { readonly type: string; readonly value: Uint8Array },
  size: number,
): void {
  out[at++] = tag;
  writeVarint(out, size);
  writeText(out, bytesField(1), type);
  if (value.length === 0) return;
  out[at++] = bytesField(2);
  writeVarint(out, value.length);
  out.set(value, at);
  at += value.length;
}

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
