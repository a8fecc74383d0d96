import type { FastifyInstance, FastifyRequest } from 'fastify';
import { RequestError } from './problem.ts';

export interface GuardOptions {
  /** Undefined: any host. */
  readonly allowedHosts: readonly string[] | undefined;
  readonly allowedOrigins: readonly string[];
}

/**
 * Refuses requests that a foreign page makes a browser send, before anything else is looked at: a name that was
 * rebound to our address (Host), and a page of another origin (Origin).
 */
export function addGuards(app: FastifyInstance, { allowedHosts, allowedOrigins }: GuardOptions): void {
  const hosts = allowedHosts === undefined ? undefined : new Set(allowedHosts.map((host) => host.toLowerCase()));
  const origins = new Set(allowedOrigins);

  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    // No browser reaches a Unix socket, and the name is made up by whoever calls.
    if (request.socket.remoteAddress !== undefined) checkHost(request, hosts);
    const { origin } = request.headers;
    if (origin === undefined) return;
    const isForeign = !isSameOrigin(origin, hostOf(request));
    if (isForeign && !origins.has(origin))
      throw new RequestError('origin-not-allowed', `pages of ${shown(origin)} may not call this gateway`);
    reply.header('vary', 'Origin');
    if (!isForeign) return;
    reply.header('access-control-allow-origin', origin);
    reply.header('access-control-expose-headers', 'location, retry-after');
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return;
    reply.header('access-control-allow-methods', 'GET, HEAD, POST');
    reply.header(
      'access-control-allow-headers',
      'authorization, content-type, idempotency-key, last-event-id, traceparent',
    );
    reply.header('access-control-max-age', '600');
  });
}

/** True when the browser says that the page is our own, or nothing that speaks against it. */
export function isFromOwnPage(request: FastifyRequest): boolean {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  const { origin } = request.headers;
  return origin === undefined || isSameOrigin(origin, hostOf(request));
}

// A name can be rebound to our address, the address itself cannot: probes and scrapers call by it.
function bracketed(address: string | undefined): string | undefined {
  const plain = address?.replace(/^::ffff:(?=\d)/, '');
  return plain?.includes(':') ? `[${plain}]` : plain;
}

function checkHost(request: FastifyRequest, hosts: ReadonlySet<string> | undefined): void {
  const host = hostOf(request);
  if (host === '') throw new RequestError('malformed-request', 'the request has no Host');
  if (hosts === undefined) return;
  const name = host.replace(/:\d*$/, '').toLowerCase();
  if (!hosts.has(name) && name !== bracketed(request.socket.localAddress))
    throw new RequestError('host-not-allowed', `this gateway is not ${shown(host)}`);
}

// HTTP/2 has `:authority` in the place of Host.
function hostOf(request: FastifyRequest): string {
  const authority = request.headers[':authority'];
  return request.headers.host ?? (typeof authority === 'string' ? authority : '');
}

// The scheme is left out: behind a proxy that ends TLS, the browser's is https and ours http.
function isSameOrigin(origin: string, host: string): boolean {
  const match = /^https?:\/\/(.+)$/.exec(origin);
  return match !== null && match[1]!.toLowerCase() === host.toLowerCase();
}

function shown(value: string): string {
  return JSON.stringify(value.slice(0, 100));
}
