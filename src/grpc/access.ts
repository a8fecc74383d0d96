import type { Metadata } from '@grpc/grpc-js';
import type { Authenticator, Credentials, Principal } from '../auth/principal.ts';
import { HubError } from '../errors.ts';

/** The parts of a grpc-js call that say who is calling. */
export interface CallWithCredentials {
  readonly metadata: Metadata;
  getAuthContext(): { sslPeerCertificate?: PeerCertificateLike | undefined };
}

export interface PeerCertificateLike {
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
  // grpc-js hands over certificates only where TLS has verified them.
  return credentialsFrom(call.metadata.get('authorization'), call.getAuthContext().sslPeerCertificate);
}

/** The credentials behind the values of `authorization` and a certificate that TLS has verified. */
export function credentialsFrom(
  authorization: readonly (string | Buffer)[],
  peer: PeerCertificateLike | undefined,
): Credentials {
  if (authorization.length > 1) throw new HubError('unauthenticated', 'more than one authorization header');
  const bearer = /^Bearer +(\S+)$/i.exec(String(authorization[0] ?? ''))?.[1];
  if (authorization.length === 1 && bearer === undefined)
    throw new HubError('unauthenticated', 'authorization is not of the form "Bearer <token>"');
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
