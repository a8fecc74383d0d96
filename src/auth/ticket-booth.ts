import { randomBytes } from 'node:crypto';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { Authenticator, Credentials, Principal } from './principal.ts';

const longestMs = 30_000;

export interface TicketBoothOptions {
  /** How long a ticket is good for, in ms, at most 30000. Default: 30000. */
  readonly ttlMs?: number | undefined;
  /** Tickets that may be out at once. Default: 10000. */
  readonly maxTickets?: number | undefined;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/**
 * One-use tickets for URLs, where a token must never be: a browser's own EventSource cannot send headers. A ticket
 * is redeemed by the process that issued it.
 */
export class TicketBooth implements Authenticator {
  readonly reads = 'ticket';
  readonly #ttlMs: number;
  readonly #maxTickets: number;
  readonly #clock: Clock;
  // In order of issue, and so of expiry.
  readonly #tickets = new Map<string, { readonly principal: Principal; readonly endsAtMs: number }>();

  constructor({ ttlMs = longestMs, maxTickets = 10_000, clock = systemClock }: TicketBoothOptions = {}) {
    if (!(ttlMs > 0 && ttlMs <= longestMs))
      throw new HubError('invalid-argument', `ttlMs of tickets is ${ttlMs}: it has to be from 1 to ${longestMs}`);
    if (!(Number.isInteger(maxTickets) && maxTickets > 0))
      throw new HubError('invalid-argument', `maxTickets is ${maxTickets}: it has to be a whole number above 0`);
    this.#ttlMs = ttlMs;
    this.#maxTickets = maxTickets;
    this.#clock = clock;
  }

  /** Tickets that are out. */
  get size(): number {
    return this.#tickets.size;
  }

  /** A ticket for what this principal may do. Throws `resource-exhausted` when too many are out. */
  issue(principal: Principal): string {
    const nowMs = this.#clock.monotonic();
    this.#dropExpired(nowMs);
    if (this.#tickets.size >= this.#maxTickets)
      throw new HubError('resource-exhausted', `${this.#maxTickets} tickets are out already`, {
        retryAfterMs: this.#ttlMs,
      });
    const ticket = randomBytes(32).toString('base64url');
    this.#tickets.set(ticket, { principal, endsAtMs: nowMs + this.#ttlMs });
    return ticket;
  }

  /** Whom the ticket was issued to; undefined when it is used, over, or never was. Works once. */
  redeem(ticket: string): Principal | undefined {
    this.#dropExpired(this.#clock.monotonic());
    const found = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    const endsAtMs = found?.principal.expiresAtMs;
    return endsAtMs !== undefined && endsAtMs <= this.#clock.now() ? undefined : found?.principal;
  }

  async authenticate({ ticket }: Credentials): Promise<Principal> {
    const principal = ticket === undefined ? undefined : this.redeem(ticket);
    if (principal === undefined) throw new HubError('unauthenticated', 'the ticket is not valid, or was used already');
    return principal;
  }

  #dropExpired(nowMs: number): void {
    for (const [ticket, { endsAtMs }] of this.#tickets) {
      if (endsAtMs > nowMs) return;
      this.#tickets.delete(ticket);
    }
  }
}

export function ticketBooth(options?: TicketBoothOptions): TicketBooth {
  return new TicketBooth(options);
}
