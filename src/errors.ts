/** What can go wrong, as one stable word to branch on. `grpc/` and `gateway/` map each to a status. */
export type HubErrorCode =
  | 'invalid-argument'
  | 'unauthenticated'
  | 'permission-denied'
  | 'not-found'
  | 'client-offline'
  | 'command-rejected'
  | 'command-failed'
  | 'command-expired'
  | 'command-cancelled'
  | 'outcome-unknown'
  | 'mailbox-full'
  | 'stream-limit-exceeded'
  | 'idempotency-conflict'
  | 'task-failed'
  | 'task-cancelled'
  | 'deadline-exceeded'
  | 'resource-exhausted'
  | 'unavailable'
  | 'unimplemented'
  | 'internal';

/** Further facts about a `HubError`. */
export interface HubErrorOptions {
  /** The error behind this one. */
  cause?: unknown;
  /** When trying again makes sense, in milliseconds from now. */
  retryAfterMs?: number;
  /** The command that the error is about. */
  commandId?: string;
  /** The word that the device itself gave, where it gave one. */
  deviceCode?: string;
}

/** The one error of this library: a `code` to branch on and a message that names the value at fault. */
export class HubError extends Error {
  override readonly name = 'HubError';
  readonly code: HubErrorCode;
  readonly retryAfterMs: number | undefined;
  readonly commandId: string | undefined;
  readonly deviceCode: string | undefined;

  constructor(code: HubErrorCode, message: string, options: HubErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
    this.commandId = options.commandId;
    this.deviceCode = options.deviceCode;
  }
}

/** Makes a `HubError` of anything that was thrown; what is not ours becomes `internal` with its cause kept. */
export function toHubError(thrown: unknown): HubError {
  if (thrown instanceof HubError) return thrown;
  return new HubError('internal', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
}
