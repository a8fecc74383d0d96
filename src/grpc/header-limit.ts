import type { IncomingHttpHeaders } from 'node:http2';
import type { Metadata } from '@grpc/grpc-js';
import { HubError } from '../errors.ts';

/** Throws `resource-exhausted` for more or longer headers than a call has any use for. */
export function checkHeaderBytes(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes)
    throw new HubError('resource-exhausted', `the call brings ${bytes} bytes of metadata, the limit is ${maxBytes}`);
}

/** Bytes of names and values. */
export function metadataBytes(metadata: Metadata): number {
  let bytes = 0;
  for (const [key, value] of Object.entries(metadata.getMap())) bytes += key.length + value.length;
  return bytes;
}

/** Bytes of names and values, without those that HTTP/2 asks for. */
export function headerBytes(headers: IncomingHttpHeaders): number {
  let bytes = 0;
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined && name.charCodeAt(0) !== 0x3a) bytes += name.length + value.length;
  }
  return bytes;
}
