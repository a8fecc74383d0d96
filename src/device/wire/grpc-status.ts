import type { IncomingHttpHeaders } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { HubError, type HubErrorCode } from '../../errors.ts';

/** Path of the method that devices call. */
export const connectPath = '/signalbox.v1.DeviceService/Connect';

/** The status in a call's trailers (or headers, where nothing else came); undefined: there is none. */
export function grpcStatus(headers: IncomingHttpHeaders): number | undefined {
  const code = Number(headers['grpc-status']);
  return headers['grpc-status'] !== undefined && Number.isInteger(code) ? code : undefined;
}

/** What an HTTP status means that came without one of gRPC (grpc/doc/http-grpc-status-mapping.md). */
export function statusOfHttp(code: number): number {
  switch (code) {
    case 400:
      return status.INTERNAL;
    case 401:
      return status.UNAUTHENTICATED;
    case 403:
      return status.PERMISSION_DENIED;
    case 404:
      return status.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return status.UNAVAILABLE;
    default:
      return status.UNKNOWN;
  }
}

/** The end of a stream as an error; undefined for one in peace. `message` is percent-encoded, as gRPC sends it. */
export function errorOfStatus(code: number, message: unknown, address: string): HubError | undefined {
  if (code === status.OK) return undefined;
  return new HubError(codes[code] ?? 'unavailable', `${address}: ${decodedMessage(message) || (status[code] ?? code)}`);
}

/** Statuses that mean something to a device; all others are a stream that was lost. */
const codes: Readonly<Record<number, HubErrorCode>> = {
  [status.INVALID_ARGUMENT]: 'invalid-argument',
  [status.FAILED_PRECONDITION]: 'invalid-argument',
  [status.UNAUTHENTICATED]: 'unauthenticated',
  [status.PERMISSION_DENIED]: 'permission-denied',
  [status.UNIMPLEMENTED]: 'unimplemented',
  [status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
};

/** A `grpc-message` as it was meant. */
export function decodedMessage(message: unknown): string {
  if (typeof message !== 'string') return '';
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
