import { encodeMessage } from './codec.ts';
import { ConnectRequest, ConnectResponse } from './gen/signalbox/v1/device.ts';
import { decodeCommand, decodeResult, encodeCommand } from './hot-frames.ts';

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
  const { seq, ack, body } = frame;
  const command = body?.$case === 'command' ? encodeCommand(seq, ack, body.value, room) : undefined;
  if (command !== undefined) return command;
  const bytes = encodeMessage(ConnectResponse, frame);
  if (room === 0) return asBuffer(bytes);
  const out = Buffer.allocUnsafe(room + bytes.length);
  out.set(bytes, room);
  return out;
}

/** Bytes in the frame are views of `bytes`. Throws an `Error` on bytes that are not a frame. */
export function decodeUp(bytes: Uint8Array): UpFrame {
  return decodeResult(asBuffer(bytes)) ?? ConnectRequest.decode(bytes);
}

/** Bytes in the frame are views of `bytes`. Throws an `Error` on bytes that are not a frame. */
export function decodeDown(bytes: Uint8Array): DownFrame {
  return decodeCommand(asBuffer(bytes)) ?? ConnectResponse.decode(bytes);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
