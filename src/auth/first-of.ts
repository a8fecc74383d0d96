import { HubError } from '../errors.ts';
import type { Authenticator, Credentials, Principal } from './principal.ts';

/**
 * Picks by what the caller brought: the first authenticator whose kind of credential is there, in the order given.
 * What is brought and refused stays refused: the next one is not tried. One that reads nothing in particular (an open
 * one) takes whoever comes as far as it.
 */
export function firstOf(...authenticators: readonly Authenticator[]): Authenticator {
  if (authenticators.length === 0) throw new HubError('invalid-argument', 'firstOf needs at least one authenticator');
  const kinds = authenticators.flatMap(({ reads }) => (reads === undefined ? [] : [called[reads]]));
  return {
    async authenticate(credentials: Credentials): Promise<Principal> {
      const reader = authenticators.find(({ reads }) => reads === undefined || credentials[reads] !== undefined);
      if (reader !== undefined) return reader.authenticate(credentials);
      throw new HubError('unauthenticated', `no credential: bring a ${kinds.join(' or a ')}`);
    },
  };
}

const called = { ticket: 'ticket', bearer: 'bearer token', certificate: 'client certificate' } as const;
