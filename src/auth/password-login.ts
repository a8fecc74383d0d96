import { jwtVerify, SignJWT } from 'jose';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { secretBytes } from './jwt-authenticator.ts';
import { mintToken } from './mint-token.ts';
import { hashPassword, isPassword } from './passwords.ts';
import type { Scope } from './principal.ts';
import type { User, UserFile } from './user-file.ts';

export interface PasswordLoginOptions {
  readonly users: Pick<UserFile, 'find'>;
  /** The hub's own secret, as `ensureSecret` gives it. */
  readonly secret: string | Uint8Array;
  readonly issuer: string;
  readonly audience: string;
  /** How long a token is good for, in ms. Default: 15 minutes. */
  readonly tokenMs?: number | undefined;
  /** How long one can go on without the password, in ms. Default: 30 days. */
  readonly refreshMs?: number | undefined;
  /** Wrong passwords of one user in ten minutes; then every try is refused for as long. Default: 10. */
  readonly maxFailures?: number | undefined;
  readonly clock?: Clock | undefined;
}

/** What a user gets for a password. */
export interface LoggedIn {
  readonly user: string;
  readonly scopes: readonly Scope[];
  readonly token: string;
  readonly expiresInMs: number;
  /** Gets the next token, without the password; good for nothing else. */
  readonly refreshToken: string;
  readonly refreshExpiresInMs: number;
}

export interface Login {
  /** Throws `unauthenticated` for a wrong name or password (without saying which), `resource-exhausted` for too many tries. */
  login(user: string, password: string): Promise<LoggedIn>;
  /** Throws `unauthenticated` when the token is no good any more, or the user has changed since. */
  refresh(refreshToken: string): Promise<LoggedIn>;
}

const refreshType = 'refresh+jwt';
const failureMs = 600_000;
/** Names whose failures are remembered. */
const maxNames = 10_000;
/** Passwords that are checked at once: each takes 64 MiB. */
const maxAtOnce = 4;

/** Login by name and password, for hubs without an identity provider. */
export function passwordLogin(options: PasswordLoginOptions): Login {
  const { users, secret, issuer, audience, tokenMs = 15 * 60_000, refreshMs = 30 * 86_400_000 } = options;
  const { maxFailures = 10, clock = systemClock } = options;
  const key = secretBytes(secret);
  const failures = new Map<string, { count: number; sinceMs: number }>();
  let checking = 0;
  // A name that is not there takes as long as one that is.
  let nobody: Promise<string> | undefined;

  const refuse = (message: string): never => {
    throw new HubError('unauthenticated', message);
  };
  const failuresOf = (name: string): { count: number; sinceMs: number } => {
    const known = failures.get(name);
    const nowMs = clock.monotonic();
    if (known && nowMs - known.sinceMs < failureMs) return known;
    if (failures.size >= maxNames) failures.clear();
    const fresh = { count: 0, sinceMs: nowMs };
    failures.set(name, fresh);
    return fresh;
  };
  const give = async ({ name, tenant, scopes, channels, version }: User): Promise<LoggedIn> => {
    const issuedAt = Math.floor(clock.now() / 1000);
    const expiresAt = issuedAt + Math.ceil(refreshMs / 1000);
    const claims = { sub: name, iss: issuer, aud: audience, iat: issuedAt, exp: expiresAt, version };
    return {
      user: name,
      scopes,
      token: await mintToken({
        secret,
        issuer,
        audience,
        subject: name,
        tenant,
        scopes,
        channels: channels && [`user.${name}`, ...channels.filter((each) => each !== `user.${name}`)],
        ttlMs: tokenMs,
        clock,
      }),
      expiresInMs: tokenMs,
      refreshToken: await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: refreshType }).sign(key),
      refreshExpiresInMs: refreshMs,
    };
  };

  return {
    async login(name, password) {
      const own = failuresOf(name);
      if (own.count >= maxFailures)
        throw new HubError('resource-exhausted', `too many wrong passwords for "${name}"`, {
          retryAfterMs: Math.ceil(failureMs - (clock.monotonic() - own.sinceMs)),
        });
      if (checking >= maxAtOnce)
        throw new HubError('resource-exhausted', 'too many logins at once', { retryAfterMs: 1000 });
      checking++;
      // Counted before it is known, so that many at once are no way around the limit.
      own.count++;
      try {
        nobody ??= hashPassword('nobody has this password');
        const user = users.find(name);
        const isRight = await isPassword(password, user?.password ?? (await nobody));
        if (!user || !isRight) return refuse('the name or the password is wrong');
        failures.delete(name);
        return await give(user);
      } finally {
        checking--;
      }
    },
    async refresh(refreshToken) {
      const verified = await jwtVerify(refreshToken, key, {
        algorithms: ['HS256'],
        issuer,
        audience,
        typ: refreshType,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(clock.now()),
      }).catch(() => refuse('the refresh token is not good (any more): log in again'));
      const { sub = '', version } = verified.payload;
      const user = users.find(sub);
      if (!user || user.version !== version) return refuse('the user has changed since: log in again');
      return give(user);
    },
  };
}
