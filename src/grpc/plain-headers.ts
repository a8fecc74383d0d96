import type { Http2Session, IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { TLSSocket } from 'node:tls';
import type { Credentials } from '../auth/principal.ts';
import { credentialsFrom, type PeerCertificateLike } from './access.ts';
import type { CallStatus } from './status.ts';

/** Whether a call wants nothing but its method: one with a deadline or compressed messages is left to grpc-js. */
export function isPlain(headers: IncomingHttpHeaders): boolean {
  const type = headers['content-type'];
  return (
    (type === 'application/grpc+proto' || type === 'application/grpc') &&
    headers[':method'] === 'POST' &&
    headers['grpc-timeout'] === undefined &&
    (headers['grpc-encoding'] === undefined || headers['grpc-encoding'] === 'identity')
  );
}

export const answerHeaders: OutgoingHttpHeaders = { ':status': 200, 'content-type': 'application/grpc+proto' };
export const answerOptions = { waitForTrailers: true, sendDate: false };

export function trailersOf({ code, details, metadata }: CallStatus): OutgoingHttpHeaders {
  return { 'grpc-status': code, 'grpc-message': encodeURI(details), ...metadata.toHttp2Headers() };
}

export function peerOf({ session }: ServerHttp2Stream): string {
  const { remoteAddress, remotePort } = session?.socket ?? {};
  return remoteAddress === undefined ? 'unknown' : `${remoteAddress}:${remotePort}`;
}

/** Throws `unauthenticated` for a header that cannot be read. */
export function plainCredentials(stream: ServerHttp2Stream, { authorization }: IncomingHttpHeaders): Credentials {
  return credentialsFrom(authorization === undefined ? [] : [authorization], certificateOf(stream));
}

/** A connection shows one certificate for all its calls. */
const certificates = new WeakMap<Http2Session, PeerCertificateLike | false>();

/** The certificate that TLS has verified, if any. */
function certificateOf({ session }: ServerHttp2Stream): PeerCertificateLike | undefined {
  if (session === undefined || session.encrypted !== true) return undefined;
  let certificate = certificates.get(session);
  if (certificate === undefined) {
    const { socket } = session;
    const shown = socket instanceof TLSSocket && socket.authorized ? socket.getPeerCertificate() : undefined;
    certificate = shown?.raw ? shown : false;
    certificates.set(session, certificate);
  }
  return certificate || undefined;
}
