import { createRemoteJWKSet, errors, type JWTVerifyGetKey, type JWTVerifyOptions, jwtVerify } from 'jose';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { principalOfClaims } from './claims.ts';
import type { Authenticator, Credentials, Principal } from './principal.ts';
import { VerifiedTokens } from './verified-tokens.ts';

/** Where the keys come from, and whom they speak for. */
export interface JwtAuthenticatorOptions {
  /** The hub's own secret (HS256), at least 32 bytes. Either this or `jwksUrl`. */
  readonly secret?: string | Uint8Array | undefined;
  /** An identity provider's keys: an https URL (http on loopback only). Nothing in a token leads to another one. */
  readonly jwksUrl?: string | undefined;
  /** The `iss` that tokens must have. */
  readonly issuer: string;
  /** The `aud` that tokens must have, or be one of theirs. */
  readonly audience: string;
  /** Default: HS256 with a secret; RS256, ES256 and EdDSA with a JWKS. */
  readonly algorithms?: readonly JwtAlgorithm[] | undefined;
  /** How often an unknown key may make the JWKS be fetched again, in ms. Default: 30000. */
  readonly jwksCooldownMs?: number | undefined;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/** What a signature may be made with. `none` is not among them, and no key serves two families. */
export type JwtAlgorithm = (typeof secretAlgorithms)[number] | (typeof keyAlgorithms)[number];

export const secretAlgorithms = ['HS256', 'HS384', 'HS512'] as const;
export const keyAlgorithms = ['RS256', 'ES256', 'EdDSA', 'PS256', 'RS384', 'RS512', 'ES384', 'ES512'] as const;

/** Longer tokens are refused unread. Bytes. */
const maxTokenBytes = 8192;
const minSecretBytes = 32;
const jwksTimeoutMs = 5000;

/**
 * Tells who is calling by a signed token with `iss`, `aud`, `exp` and `sub`. Its other claims: `scope` (separated by
 * spaces), `tenant`, `client_id` (devices; default: `sub`), `channels`. Throws `unauthenticated` saying what is wrong,
 * and `unavailable` when the JWKS cannot be fetched. Bad options throw `invalid-argument` right away.
 */
export function jwtAuthenticator(options: JwtAuthenticatorOptions): Authenticator {
  const { issuer, audience, clock = systemClock } = options;
  for (const [name, value] of Object.entries({ issuer, audience }))
    if (typeof value !== 'string' || value === '') throw new HubError('invalid-argument', `the JWT ${name} is missing`);
  const key = keyOf(options);
  const verifying: JWTVerifyOptions = {
    algorithms: algorithmsOf(options),
    issuer,
    audience,
    requiredClaims: ['exp', 'sub'],
  };
  // Keys of a JWKS may be withdrawn, so its tokens are verified each time.
  const verified = options.secret === undefined ? undefined : new VerifiedTokens(clock);
  return {
    reads: 'bearer',
    async authenticate({ bearer }: Credentials): Promise<Principal> {
      if (bearer === undefined || bearer === '') throw refused('no token: send "authorization: Bearer <token>"');
      if (Buffer.byteLength(bearer) > maxTokenBytes)
        throw refused(`the token has ${Buffer.byteLength(bearer)} bytes, the limit is ${maxTokenBytes}`);
      const known = verified?.get(bearer);
      if (known !== undefined) return known;
      try {
        const { payload, protectedHeader } = await verify(bearer, key, {
          ...verifying,
          currentDate: new Date(clock.now()),
        });
        checkType(protectedHeader.typ);
        const principal = principalOfClaims(payload);
        verified?.add(bearer, principal);
        return principal;
      } catch (error) {
        throw error instanceof HubError ? error : whatIsWrong(error, options);
      }
    },
  };
}

/** Throws `invalid-argument` when it is too short to be a secret. */
export function secretBytes(secret: string | Uint8Array): Uint8Array {
  const bytes = typeof secret === 'string' ? new TextEncoder().encode(secret) : secret;
  if (bytes.length < minSecretBytes)
    throw new HubError(
      'invalid-argument',
      `the JWT secret has ${bytes.length} bytes, it needs at least ${minSecretBytes}`,
    );
  return bytes;
}

function keyOf({ secret, jwksUrl, jwksCooldownMs }: JwtAuthenticatorOptions): Uint8Array | JWTVerifyGetKey {
  if ((secret === undefined) === (jwksUrl === undefined))
    throw new HubError('invalid-argument', 'JWT needs either a secret or a JWKS URL');
  if (secret !== undefined) return secretBytes(secret);
  return createRemoteJWKSet(checkedJwksUrl(jwksUrl ?? ''), {
    timeoutDuration: jwksTimeoutMs,
    cooldownDuration: jwksCooldownMs ?? 30_000,
  });
}

function verify(token: string, key: Uint8Array | JWTVerifyGetKey, options: JWTVerifyOptions) {
  return typeof key === 'function' ? jwtVerify(token, key, options) : jwtVerify(token, key, options);
}

function checkedJwksUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLoopback = url !== undefined && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url === undefined || !(url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback)))
    throw new HubError('invalid-argument', `the JWKS URL ${JSON.stringify(text)} is not an https URL`);
  return url;
}

function algorithmsOf({ secret, algorithms }: JwtAuthenticatorOptions): string[] {
  const allowed: readonly string[] = secret === undefined ? keyAlgorithms : secretAlgorithms;
  const wrong = algorithms?.find((algorithm) => !allowed.includes(algorithm));
  if (wrong !== undefined || algorithms?.length === 0) {
    const source = secret === undefined ? 'a JWKS' : 'a secret';
    throw new HubError(
      'invalid-argument',
      `JWT algorithm ${wrong ?? 'list'} does not go with ${source}: ${allowed.join(', ')}`,
    );
  }
  return [...(algorithms ?? (secret === undefined ? ['RS256', 'ES256', 'EdDSA'] : ['HS256']))];
}

/** Some issuers leave the type out; another one than an access token's is another kind of token. */
function checkType(typ: string | undefined): void {
  if (typ === undefined || /^(application\/)?(at\+)?jwt$/i.test(typ)) return;
  throw refused(`the token's typ is ${shown(typ)}, not JWT`);
}

/** Says what is wrong without repeating any of the token but its plain header and claim names. */
function whatIsWrong(error: unknown, { jwksUrl }: JwtAuthenticatorOptions): HubError {
  if (error instanceof errors.JWTExpired) return refused('the token has expired');
  if (error instanceof errors.JWTClaimValidationFailed)
    return refused(
      error.reason === 'missing'
        ? `the token has no ${error.claim} claim`
        : error.claim === 'nbf'
          ? 'the token is not valid yet'
          : `the token's ${error.claim} is not the one expected here`,
    );
  if (error instanceof errors.JOSEAlgNotAllowed) return refused("the token's algorithm is not allowed here");
  if (error instanceof errors.JWSSignatureVerificationFailed) return refused("the token's signature is not valid");
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return refused('the token is signed with a key that its issuer does not publish');
  if (error instanceof errors.JOSENotSupported) return refused('the token asks for an extension that is not supported');
  if (error instanceof errors.JWTInvalid || error instanceof errors.JWSInvalid)
    return refused('the token is not a signed JWT');
  if (jwksUrl !== undefined)
    return new HubError('unavailable', `the keys to check tokens with cannot be fetched from ${jwksUrl}`, {
      cause: error,
    });
  return refused('the token cannot be verified');
}

function refused(message: string): HubError {
  return new HubError('unauthenticated', message);
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 32));
}
