import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { ConnectRequest, ConnectResponse } from './gen/signalbox/v1/device.ts';

/** A frame from a device to the hub, as generated from `device.proto`. */
export type UpFrame = ConnectRequest;
/** A frame from the hub to a device. */
export type DownFrame = ConnectResponse;
export type UpBody = NonNullable<UpFrame['body']>;
export type DownBody = NonNullable<DownFrame['body']>;

/** Version of the stream protocol; `hello` with another one is refused. */
export const protocolVersion = 1;

// One writer for all frames: it is empty again after finish(), and reuse halves the cost of encoding.
const writer = new BinaryWriter();

export function encodeUp(frame: UpFrame): Buffer {
  return asBuffer(ConnectRequest.encode(frame, writer).finish());
}

export function encodeDown(frame: DownFrame): Buffer {
  return asBuffer(ConnectResponse.encode(frame, writer).finish());
}

/** Throws an `Error` on bytes that are not a frame. */
export function decodeUp(bytes: Uint8Array): UpFrame {
  return ConnectRequest.decode(bytes);
}

/** Throws an `Error` on bytes that are not a frame. */
export function decodeDown(bytes: Uint8Array): DownFrame {
  return ConnectResponse.decode(bytes);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
