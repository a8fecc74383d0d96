import { HubError } from '../errors.ts';
import { defaultTenant } from '../events/channels.ts';
import { checkClientId, checkTenant } from '../protocol/checks.ts';
import type { Authenticator, Credentials, Principal } from './principal.ts';

type Certificate = NonNullable<Credentials['certificate']>;

/** How certificates are read. */
export interface MtlsAuthenticatorOptions {
  /** The tenant of a certificate: its organization, say. Default: `default` for all. */
  readonly tenantFrom?: ((certificate: Certificate) => string) | undefined;
}

/**
 * Devices by client certificate, which TLS has verified already: the client id is the common name, or the first DNS
 * name where there is none. They have the scope `device` and nothing else. Throws `unauthenticated`.
 */
export function mtlsAuthenticator({ tenantFrom = () => defaultTenant }: MtlsAuthenticatorOptions = {}): Authenticator {
  return {
    reads: 'certificate',
    async authenticate({ certificate }: Credentials): Promise<Principal> {
      if (certificate === undefined) throw new HubError('unauthenticated', 'no client certificate');
      const clientId = certificate.commonName || certificate.dnsNames[0];
      if (clientId === undefined)
        throw new HubError('unauthenticated', 'the client certificate has neither a common name nor a DNS name');
      const tenant = tenantFrom(certificate);
      try {
        checkClientId(clientId);
        checkTenant(tenant);
      } catch (error) {
        throw new HubError('unauthenticated', `the client certificate: ${(error as Error).message}`, { cause: error });
      }
      return { subject: clientId, tenant, scopes: new Set(['device']), clientId, expiresAtMs: certificate.expiresAtMs };
    },
  };
}
