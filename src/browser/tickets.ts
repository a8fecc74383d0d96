import { HubProblem } from './problem.ts';
import { type RequestOptions, request } from './requests.ts';

export interface TicketUrlOptions extends RequestOptions {
  /** The channels to watch, 1 to 16. */
  channels: readonly string[];
  /** Where to go on. Default: only what happens from now on. */
  cursor?: string;
  /** Gives a one-use ticket. Default: asks `POST /v1/tickets` for one, with `getToken`'s token. */
  getTicket?: () => Promise<string>;
}

/**
 * A URL for the browser's own `EventSource`, which can send no token: it carries a ticket, good for one connection within
 * 30 seconds. EventSource reconnects with the same URL; after an `error` event make a new one, or use `watch()`.
 */
export async function eventSourceUrl(options: TicketUrlOptions): Promise<string> {
  const { url = '', channels, cursor, getTicket = () => newTicket(options) } = options;
  if (channels.length === 0)
    throw new HubProblem('channels is empty; name at least one to watch', { code: 'invalid-argument', status: 0 });
  const query = new URLSearchParams(channels.map((channel): [string, string] => ['channel', channel]));
  if (cursor !== undefined) query.set('last_event_id', cursor);
  query.set('ticket', await getTicket());
  return `${url.replace(/\/$/, '')}/v1/events?${query}`;
}

/** A one-use ticket that stands for the caller's token. Throws a `HubProblem`. */
export async function newTicket(options: RequestOptions = {}): Promise<string> {
  const { ticket } = await request<{ ticket: string }>('POST', '/v1/tickets', undefined, options);
  return ticket;
}
