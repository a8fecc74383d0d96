import { SignJWT } from 'jose';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { principalOfClaims } from './claims.ts';
import { secretBytes } from './jwt-authenticator.ts';
import { isScope, scopes as knownScopes, type Scope } from './principal.ts';

/** What a new token says. */
export interface MintTokenOptions {
  /** The hub's own secret, as `ensureSecret` gives it. */
  readonly secret: string | Uint8Array;
  readonly issuer: string;
  readonly audience: string;
  /** Who it is for. */
  readonly subject: string;
  readonly scopes: readonly Scope[];
  /** Default: `default`. */
  readonly tenant?: string | undefined;
  /** Devices: the client id. Default: the subject. */
  readonly clientId?: string | undefined;
  /** Channel patterns that it may read. Default: all. */
  readonly channels?: readonly string[] | undefined;
  /** How long it is good for, in ms, rounded up to whole seconds. */
  readonly ttlMs: number;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/** A token that `jwtAuthenticator` with the same secret, issuer and audience accepts. Throws `invalid-argument`. */
export async function mintToken(options: MintTokenOptions): Promise<string> {
  const { secret, issuer, audience, subject, scopes, tenant, clientId, channels, ttlMs, clock = systemClock } = options;
  const key = secretBytes(secret);
  const unknown = scopes.find((scope) => !isScope(scope));
  if (unknown !== undefined)
    throw new HubError('invalid-argument', `there is no scope "${unknown}", only ${knownScopes.join(', ')}`);
  if (!(Number.isFinite(ttlMs) && ttlMs > 0))
    throw new HubError('invalid-argument', `the token's ttlMs is ${ttlMs}: it has to be more than 0`);
  const issuedAt = Math.floor(clock.now() / 1000);
  const claims = {
    sub: subject,
    iss: issuer,
    aud: audience,
    iat: issuedAt,
    exp: issuedAt + Math.ceil(ttlMs / 1000),
    scope: scopes.join(' '),
    ...(tenant !== undefined && { tenant }),
    ...(clientId !== undefined && { client_id: clientId }),
    ...(channels !== undefined && { channels: [...channels] }),
  };
  checkReadable(claims);
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).sign(key);
}

/** Better now than when the device stands in the field with it. */
function checkReadable(claims: Parameters<typeof principalOfClaims>[0]): void {
  try {
    principalOfClaims(claims);
  } catch (error) {
    throw new HubError('invalid-argument', (error as Error).message, { cause: error });
  }
}
