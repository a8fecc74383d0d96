/** What went wrong, in the words that the gateway uses, and `network` for a hub that was not reached. */
export interface ProblemDetails {
  /** A stable word to branch on: `client-offline`, `unauthenticated`, `invalid-argument`, `network`... */
  code: string;
  /** HTTP status; 0 if there was no answer. */
  status: number;
  /** When trying again makes sense, in ms from now. */
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** The one error of this library: a `code` to branch on and a message that names the value at fault. */
export class HubProblem extends Error {
  override readonly name = 'HubProblem';
  readonly code: string;
  readonly status: number;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, { code, status, retryAfterMs, cause }: ProblemDetails) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The problem that an answer tells of: its `application/problem+json`, or what its status says. */
export async function problemOf(response: Response): Promise<HubProblem> {
  const body = await readProblem(response);
  return new HubProblem(
    body.detail ?? body.title ?? `the hub answered ${response.status} ${response.statusText}`.trim(),
    {
      code: body.code ?? codes[response.status] ?? (response.status >= 500 ? 'unavailable' : 'invalid-argument'),
      status: response.status,
      retryAfterMs: retryAfterMs(response),
    },
  );
}

/** The problem of a request without an answer. */
export function networkProblem(thrown: unknown): HubProblem {
  if (thrown instanceof HubProblem) return thrown;
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return new HubProblem(`the hub cannot be reached: ${why}`, { code: 'network', status: 0, cause: thrown });
}

const codes: Record<number, string> = {
  401: 'unauthenticated',
  403: 'permission-denied',
  404: 'not-found',
  429: 'resource-exhausted',
};

interface Problem {
  code?: string;
  title?: string;
  detail?: string;
}

async function readProblem(response: Response): Promise<Problem> {
  if (!/\bjson\b/.test(response.headers.get('content-type') ?? '')) {
    await response.body?.cancel();
    return {};
  }
  try {
    const body: unknown = await response.json();
    if (typeof body !== 'object' || body === null) return {};
    const { code, title, detail } = body as Record<string, unknown>;
    return {
      ...(typeof code === 'string' && { code }),
      ...(typeof title === 'string' && { title }),
      ...(typeof detail === 'string' && { detail }),
    };
  } catch {
    return {}; // cut off or not JSON after all: the status says enough
  }
}

/** `Retry-After` in ms: seconds, or a date. */
export function retryAfterMs(response: Response, now: number = Date.now()): number | undefined {
  const value = response.headers.get('retry-after');
  if (value === null) return undefined;
  if (/^\d{1,9}$/.test(value.trim())) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
