import { encodeMessage } from './codec.ts';
import { ConnectRequest, ConnectResponse } from './gen/signalbox/v1/device.ts';

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
  return asBuffer(encodeMessage(ConnectResponse, frame));
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
