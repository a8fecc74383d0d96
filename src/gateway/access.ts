import type { FastifyInstance, FastifyRequest } from 'fastify';
import { hasScope, matchesChannel, requireScope } from '../auth/access.ts';
import type { Authenticator, Principal, Scope } from '../auth/principal.ts';
import { HubError } from '../errors.ts';
import { clientChannel } from '../events/channels.ts';
import { isFromOwnPage } from './guards.ts';
import type { Tickets } from './options.ts';

/** `open`: anybody. `token`: a bearer token. `stream`: also what native EventSource can bring, a ticket or a cookie. */
export type Access = 'open' | 'token' | 'stream';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Default: `token`. */
    access?: Access;
  }
  interface FastifyRequest {
    principal: Principal;
  }
}

/** Name of the cookie that event streams of the gateway's own pages may bring. */
export const tokenCookie = 'signalbox_token';

/** Finds out who is calling, before the body is read. */
export function addAccess(app: FastifyInstance, authenticator: Authenticator, tickets: Tickets): void {
  app.decorateRequest('principal', null as unknown as Principal);
  app.addHook('onRequest', async (request) => {
    const access = request.routeOptions.config.access ?? 'token';
    if (access === 'open' || request.is404) return;
    request.principal = await principalOf(request, access, authenticator, tickets);
  });
}

async function principalOf(
  request: FastifyRequest,
  access: Access,
  authenticator: Authenticator,
  tickets: Tickets,
): Promise<Principal> {
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    const bearer = /^bearer +(\S+)$/i.exec(authorization)?.[1];
    if (bearer === undefined)
      throw new HubError('unauthenticated', 'the Authorization header has to be "Bearer" and a token');
    return authenticator.authenticate({ bearer });
  }
  if (access === 'stream') {
    const { ticket } = request.query as { ticket?: unknown };
    if (ticket !== undefined) {
      // HEAD opens no stream, so it must not use the ticket up either.
      const principal = typeof ticket === 'string' && request.method === 'GET' ? tickets.redeem(ticket) : undefined;
      if (principal === undefined) throw new HubError('unauthenticated', 'the ticket is unknown, used or too old');
      return principal;
    }
    const bearer = cookieOf(request, tokenCookie);
    if (bearer !== undefined && isFromOwnPage(request)) return authenticator.authenticate({ bearer });
  }
  return authenticator.authenticate({});
}

/** Throws `permission-denied` unless the principal has one of the scopes. */
export function requireAnyScope(principal: Principal, first: Scope, ...others: readonly Scope[]): void {
  if (!others.some((scope) => hasScope(principal, scope))) requireScope(principal, first);
}

/** True when the principal's channel patterns, if it has any, let it see this client. */
export function maySeeClient(principal: Principal, clientId: string): boolean {
  const { channels } = principal;
  if (channels === undefined || principal.scopes.has('admin')) return true;
  return channels.some((pattern) => matchesChannel(pattern, clientChannel(clientId)));
}

function cookieOf(request: FastifyRequest, name: string): string | undefined {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [key, value] = part.split('=', 2);
    if (key?.trim() === name && value !== undefined) return value.trim();
  }
  return undefined;
}
