import { type HubProblem, networkProblem, problemOf } from './problem.ts';
import type { GetToken } from './watch-types.ts';

export interface RequestOptions {
  /** Where the gateway is, without a slash at the end. Default: where the page came from. */
  url?: string;
  /** Gives the bearer token; asked again, once, when the hub refuses it. Default: no token. */
  getToken?: GetToken;
  signal?: AbortSignal;
  /** Default: the global `fetch`. */
  fetch?: typeof fetch;
}

/** Asks the gateway and gives its JSON. Throws a `HubProblem`. */
export async function request<T>(method: string, path: string, body: unknown, options: RequestOptions): Promise<T> {
  const { url = '', getToken, signal, fetch: send = fetch } = options;
  let refused: HubProblem | undefined;
  let last: string | undefined;
  while (true) {
    const token = await getToken?.({ refused, refusedToken: refused && last });
    if (refused !== undefined && token === last) throw refused;
    last = token;
    const headers = new Headers({ accept: 'application/json, application/problem+json' });
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    if (body !== undefined) headers.set('content-type', 'application/json');
    try {
      const response = await send(`${url.replace(/\/$/, '')}${path}`, {
        method,
        headers,
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal !== undefined && { signal }),
      });
      if (response.ok) return (await response.json()) as T;
      const problem = await problemOf(response);
      if (problem.status !== 401 || getToken === undefined) throw problem;
      refused = problem;
    } catch (error) {
      signal?.throwIfAborted();
      throw networkProblem(error);
    }
  }
}
