import { Metadata, status } from '@grpc/grpc-js';
import { HubError, type HubErrorCode } from '../errors.ts';

/** The gRPC status of every error of ours; the compiler keeps it complete. */
export const grpcStatus = {
  'invalid-argument': status.INVALID_ARGUMENT,
  unauthenticated: status.UNAUTHENTICATED,
  'permission-denied': status.PERMISSION_DENIED,
  'not-found': status.NOT_FOUND,
  'client-offline': status.UNAVAILABLE,
  'command-rejected': status.FAILED_PRECONDITION,
  'command-failed': status.ABORTED,
  'command-expired': status.DEADLINE_EXCEEDED,
  'command-cancelled': status.CANCELLED,
  'outcome-unknown': status.UNKNOWN,
  'mailbox-full': status.RESOURCE_EXHAUSTED,
  'stream-limit-exceeded': status.RESOURCE_EXHAUSTED,
  'idempotency-conflict': status.ALREADY_EXISTS,
  'task-failed': status.ABORTED,
  'task-cancelled': status.CANCELLED,
  'deadline-exceeded': status.DEADLINE_EXCEEDED,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
} as const satisfies Record<HubErrorCode, number>;

// For answers of other servers, proxies and grpc-js itself, which carry no code of ours.
const codeOfStatus: Readonly<Record<number, HubErrorCode>> = {
  [status.CANCELLED]: 'unavailable',
  [status.UNKNOWN]: 'internal',
  [status.INVALID_ARGUMENT]: 'invalid-argument',
  [status.DEADLINE_EXCEEDED]: 'deadline-exceeded',
  [status.NOT_FOUND]: 'not-found',
  [status.ALREADY_EXISTS]: 'invalid-argument',
  [status.PERMISSION_DENIED]: 'permission-denied',
  [status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
  [status.FAILED_PRECONDITION]: 'invalid-argument',
  [status.ABORTED]: 'unavailable',
  [status.OUT_OF_RANGE]: 'invalid-argument',
  [status.UNIMPLEMENTED]: 'unimplemented',
  [status.INTERNAL]: 'internal',
  [status.UNAVAILABLE]: 'unavailable',
  [status.DATA_LOSS]: 'internal',
  [status.UNAUTHENTICATED]: 'unauthenticated',
};

const codeKey = 'signalbox-code';
const retryAfterKey = 'signalbox-retry-after-ms';
const deviceCodeKey = 'signalbox-device-code';
const commandIdKey = 'signalbox-command-id';

/** What grpc-js takes as the end of a call. */
export interface CallStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** The end of a call for an error. The metadata lets our own callers rebuild the same `HubError`. */
export function statusOfError(error: HubError): CallStatus {
  const metadata = new Metadata();
  metadata.set(codeKey, error.code);
  if (error.retryAfterMs !== undefined) metadata.set(retryAfterKey, String(Math.ceil(error.retryAfterMs)));
  if (error.deviceCode !== undefined) metadata.set(deviceCodeKey, encoded(error.deviceCode));
  if (error.commandId !== undefined) metadata.set(commandIdKey, encoded(error.commandId));
  // What went wrong inside is for the log of the hub, not for its callers.
  const details = error.code === 'internal' ? 'internal error' : error.message;
  // grpc-js throws, from within an event of the stream, for half a surrogate pair.
  return { code: grpcStatus[error.code], details: details.slice(0, 2_000).toWellFormed(), metadata };
}

/** The end of a call as it is told to its caller. */
export interface EndOfCall {
  readonly code: number;
  readonly details: string;
  readonly metadata?: { get(key: string): readonly (string | Buffer)[] } | undefined;
}

/** The `HubError` behind the end of a call, from whatever server it came. */
export function errorOfStatus(end: EndOfCall): HubError {
  const read = (key: string): string | undefined => {
    const value = end.metadata?.get(key)[0];
    return typeof value === 'string' ? value : undefined;
  };
  const named = read(codeKey);
  const code = named !== undefined && isHubErrorCode(named) ? named : (codeOfStatus[end.code] ?? 'internal');
  const retryAfterMs = Number(read(retryAfterKey));
  const deviceCode = read(deviceCodeKey);
  const commandId = read(commandIdKey);
  return new HubError(code, end.details || `the call ended with gRPC status ${end.code}`, {
    ...(retryAfterMs > 0 && { retryAfterMs }),
    ...(deviceCode !== undefined && { deviceCode: decoded(deviceCode) }),
    ...(commandId !== undefined && { commandId: decoded(commandId) }),
  });
}

/** Whether a hub of ours has ended the call, and not something on the way to it. */
export const isFromHub = (end: EndOfCall): boolean => (end.metadata?.get(codeKey).length ?? 0) > 0;

function isHubErrorCode(word: string): word is HubErrorCode {
  return Object.hasOwn(grpcStatus, word);
}

function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
