import { defaultTenant } from '../events/channels.ts';
import { type Authenticator, type Principal, type Scope, scopes } from './principal.ts';

/** Lets everybody do everything, as `anonymous`. For a hub that only its own machine can reach. */
export function openAuthenticator(): Authenticator {
  const anonymous: Principal = {
    subject: 'anonymous',
    tenant: defaultTenant,
    scopes: new Set<Scope>(scopes),
  };
  return { authenticate: async () => anonymous };
}
