import { HubError, type HubErrorCode, type HubErrorOptions } from '../errors.ts';

/** The HTTP status of each error. The compiler keeps the table complete. */
export const httpStatus = {
  'invalid-argument': 400,
  unauthenticated: 401,
  'permission-denied': 403,
  'not-found': 404,
  'client-offline': 503,
  'command-rejected': 422,
  'command-failed': 502,
  'command-expired': 504,
  'command-cancelled': 409,
  'outcome-unknown': 502,
  'mailbox-full': 429,
  'stream-limit-exceeded': 429,
  'idempotency-conflict': 409,
  'task-failed': 502,
  'task-cancelled': 409,
  'deadline-exceeded': 504,
  'resource-exhausted': 429,
  unavailable: 503,
  unimplemented: 501,
  internal: 500,
} as const satisfies Record<HubErrorCode, number>;

/** What is wrong with a request before any of the hub's errors can come up. */
const requestStatus = {
  'malformed-request': 400,
  'unknown-route': 404,
  'method-not-allowed': 405,
  'request-timeout': 408,
  'upgrade-required': 426,
  'payload-too-large': 413,
  'uri-too-long': 414,
  'unsupported-media-type': 415,
  'host-not-allowed': 421,
  'origin-not-allowed': 403,
  'headers-too-large': 431,
} as const;

export type ProblemCode = HubErrorCode | keyof typeof requestStatus;

const statusOf: Record<ProblemCode, number> = { ...httpStatus, ...requestStatus };

/** An error answer, `application/problem+json` of RFC 9457. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  /** The field of the request that is at fault. */
  readonly field?: string | undefined;
  readonly commandId?: string | undefined;
  /** The word that the device gave. */
  readonly deviceCode?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

export const problemType = 'application/problem+json; charset=utf-8';

/** A request that is refused by the gateway itself. */
export class RequestError extends Error {
  readonly code: ProblemCode;
  readonly headers: Record<string, string>;

  constructor(code: ProblemCode, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.code = code;
    this.headers = headers;
  }
}

/** `invalid-argument` that names the field. */
export class FieldError extends HubError {
  readonly field: string;

  constructor(field: string, message: string, options?: HubErrorOptions) {
    super('invalid-argument', message, options);
    this.field = field;
  }
}

export function problem(code: ProblemCode, detail: string, more: Partial<Problem> = {}): Problem {
  const words = code.replaceAll('-', ' ');
  return {
    type: `urn:signalbox:problem:${code}`,
    title: words[0]!.toUpperCase() + words.slice(1),
    status: statusOf[code],
    detail,
    code,
    ...more,
  };
}

/** The answer to an error that was thrown. What is not ours tells nothing of the inside. */
export function problemOf(error: unknown): Problem {
  if (error instanceof HubError) {
    if (error.code === 'internal') return problem('internal', 'something went wrong inside the hub; its log says what');
    return problem(error.code, error.message, {
      field: error instanceof FieldError ? error.field : undefined,
      commandId: error.commandId,
      deviceCode: error.deviceCode,
      retryAfterMs: error.retryAfterMs,
    });
  }
  if (error instanceof RequestError) return problem(error.code, error.message);
  return invalid(error) ?? frameworkProblem(error) ?? problemOf(new HubError('internal', ''));
}

/** Headers that belong to a problem. */
export function problemHeaders({ code, retryAfterMs }: Problem): Record<string, string> {
  const headers: Record<string, string> = { 'cache-control': 'no-store' };
  if (code === 'unauthenticated') headers['www-authenticate'] = 'Bearer';
  if (statusOf[code] === 429) headers['retry-after'] = String(Math.max(1, Math.ceil((retryAfterMs ?? 1_000) / 1_000)));
  else if (retryAfterMs !== undefined) headers['retry-after'] = String(Math.max(1, Math.ceil(retryAfterMs / 1_000)));
  return headers;
}

interface ValidationIssue {
  readonly instancePath: string;
  readonly message: string;
  readonly params?: { readonly keys?: readonly string[] };
}

/** An error of the zod validator: the first issue, by field. */
function invalid(error: unknown): Problem | undefined {
  if (!isRecord(error) || !Array.isArray(error.validation)) return undefined;
  const issue = error.validation[0] as ValidationIssue;
  const path = issue.instancePath.split('/').filter((part) => part !== '');
  const [unknownKey] = issue.params?.keys ?? [];
  if (unknownKey !== undefined) path.push(unknownKey);
  const place = error.validationContext === 'querystring' ? 'query' : String(error.validationContext);
  const field = path.length === 0 ? place : path.join('.');
  const detail = unknownKey !== undefined ? `unknown field "${field}" in ${place}` : `${field}: ${issue.message}`;
  return problem('invalid-argument', detail.slice(0, 500), { field: field.slice(0, 200) });
}

/** What Fastify itself refuses. */
function frameworkProblem(error: unknown): Problem | undefined {
  if (!isRecord(error) || typeof error.code !== 'string') return undefined;
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return problem('payload-too-large', 'the body is larger than this gateway takes');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return problem('unsupported-media-type', 'the body has to be application/json');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return problem('malformed-request', 'the body is not as long as content-length says');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return problem('malformed-request', 'the body is empty');
    case 'FST_ERR_BAD_URL':
      return problem('malformed-request', 'the URL has an escape that is not valid percent-encoding');
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return problem('uri-too-long', 'a part of the path is too long');
    default:
      return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
