import type { WatchClock } from './clock.ts';
import { HubProblem, networkProblem, problemOf } from './problem.ts';

export interface StreamRequest {
  readonly url: string;
  readonly headers: Headers;
  readonly fetch: typeof fetch;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** In ms; how long an answer, and then each next byte, may take. */
  readonly watchdogMs: number;
  readonly clock: WatchClock;
}

/**
 * The bytes of one event stream, from one request; undefined if the hub says (204) that there is nothing more to come.
 * Throws a `HubProblem`: what the hub answered, `network` when it was cut off or silent for too long.
 * Leaving the loop, and aborting the signal, drops the connection.
 */
export async function openEventStream(request: StreamRequest): Promise<AsyncGenerator<Uint8Array, void> | undefined> {
  const connection = new AbortController();
  const abort = () => connection.abort(request.signal.reason);
  request.signal.addEventListener('abort', abort, { once: true });
  const close = () => {
    request.signal.removeEventListener('abort', abort);
    connection.abort();
  };
  try {
    request.signal.throwIfAborted();
    const init: RequestInit = { headers: request.headers, signal: connection.signal, cache: 'no-store' };
    // A browser's fetch must not be called as a method of anything but the window.
    const { fetch: send } = request;
    const response = await guarded(request, connection, () => send(request.url, init));
    if (response.status === 204) {
      close();
      return undefined;
    }
    if (!response.ok) throw await guarded(request, connection, () => problemOf(response));
    const type = response.headers.get('content-type') ?? 'nothing';
    if (!type.startsWith('text/event-stream') || response.body === null)
      throw new HubProblem(`${request.url} answers ${type}, not text/event-stream: it is no hub`, {
        code: 'invalid-answer',
        status: response.status,
      });
    return bytes(request, connection, response.body, close);
  } catch (error) {
    close();
    throw networkProblem(error);
  }
}

async function* bytes(
  request: StreamRequest,
  connection: AbortController,
  body: ReadableStream<Uint8Array>,
  close: () => void,
): AsyncGenerator<Uint8Array, void> {
  const reader = body.getReader();
  try {
    while (true) {
      const { done, value } = await guarded(request, connection, () => reader.read());
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw networkProblem(error);
  } finally {
    close();
  }
}

/** Drops the connection if `step` takes longer than the watchdog allows. */
async function guarded<T>(request: StreamRequest, connection: AbortController, step: () => Promise<T>): Promise<T> {
  const { watchdogMs, clock } = request;
  const silent = new HubProblem(`nothing was heard for ${watchdogMs} ms`, { code: 'network', status: 0 });
  const release = clock.after(watchdogMs, () => connection.abort(silent));
  try {
    return await step();
  } finally {
    release();
  }
}
