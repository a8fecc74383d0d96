import type { Metadata } from '@grpc/grpc-js';
import type { Authenticator, Credentials, Principal } from '../auth/principal.ts';
import { HubError } from '../errors.ts';

/** The parts of a grpc-js call that say who is calling. */
export interface CallWithCredentials {
  readonly metadata: Metadata;
  getAuthContext(): { sslPeerCertificate?: PeerCertificateLike | undefined };
}

interface PeerCertificateLike {
  readonly subject: { readonly CN?: string | string[]; readonly O?: string | string[] };
  readonly subjectaltname?: string | undefined;
  readonly valid_to: string;
}

/** Who is calling. Throws `unauthenticated`. */
export function authenticateCall(call: CallWithCredentials, authenticator: Authenticator): Promise<Principal> {
  return authenticator.authenticate(credentialsOf(call));
}

/** The credentials of a call: `authorization: Bearer ...` and the verified client certificate. */
export function credentialsOf(call: CallWithCredentials): Credentials {
  const authorization = call.metadata.get('authorization');
  if (authorization.length > 1) throw new HubError('unauthenticated', 'more than one authorization header');
  const bearer = /^Bearer +(\S+)$/i.exec(String(authorization[0] ?? ''))?.[1];
  if (authorization.length === 1 && bearer === undefined)
    throw new HubError('unauthenticated', 'authorization is not of the form "Bearer <token>"');
  // grpc-js hands over certificates only where TLS has verified them.
  const peer = call.getAuthContext().sslPeerCertificate;
  return { bearer, certificate: peer && certificateOf(peer) };
}

function certificateOf(peer: PeerCertificateLike): Credentials['certificate'] {
  const names = (peer.subjectaltname ?? '').split(', ').filter((name) => name.startsWith('DNS:'));
  const expiresAtMs = Date.parse(peer.valid_to);
  return {
    commonName: first(peer.subject.CN) ?? '',
    dnsNames: names.map((name) => name.slice(4)),
    organization: first(peer.subject.O),
    ...(Number.isFinite(expiresAtMs) && { expiresAtMs }),
  };
}

function first(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
