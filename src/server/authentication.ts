import { readFileSync } from 'node:fs';
import {
  type Authenticator,
  checkSecret,
  ensureSecret,
  firstOf,
  jwtAuthenticator,
  type Login,
  mtlsAuthenticator,
  openAuthenticator,
  passwordLogin,
  UserFile,
} from '../auth/index.ts';
import { HubError, toHubError } from '../errors.ts';
import { isLocal, parseAddress } from './addresses.ts';
import type { ResolvedOptions } from './options.ts';

/** Throws `invalid-argument` for an address that others can reach while nobody is asked who they are. */
export async function refuseOpenDoors(options: ResolvedOptions): Promise<void> {
  if (options.auth !== 'none') return;
  for (const address of [...options.grpc, ...options.http])
    if (!(await isLocal(parseAddress(address))))
      throw new HubError(
        'invalid-argument',
        `${address} can be reached from other machines, and authentication is off. Use --auth jwt (makes a secret in ` +
          'the data directory; `signalbox token` mints from it), --auth-jwks <url> for the tokens of your identity ' +
          'provider, or --auth mtls with --tls-cert, --tls-key and --tls-ca; or listen on 127.0.0.1 only',
      );
}

/** Who tells who is calling, as the options say. With tokens, devices may bring a certificate of `tlsCa` instead. */
export async function authenticatorFor(options: ResolvedOptions): Promise<Authenticator> {
  if (options.auth === 'none') return openAuthenticator();
  if (options.auth === 'mtls') return mtlsAuthenticator();
  const { authJwks, authIssuer: issuer, authAudience: audience } = options;
  const bearer =
    authJwks === undefined
      ? jwtAuthenticator({ secret: await secretOf(options), issuer, audience })
      : jwtAuthenticator({ jwksUrl: authJwks, issuer, audience });
  return options.tlsCa === undefined ? bearer : firstOf(bearer, mtlsAuthenticator());
}

/** Login by password, where this hub signs its own tokens and has a place for its users. */
export async function loginFor(options: ResolvedOptions): Promise<Login | undefined> {
  const { auth, authJwks, data, authIssuer: issuer, authAudience: audience } = options;
  if (auth !== 'jwt' || authJwks !== undefined || data === ':memory:') return undefined;
  return passwordLogin({ users: new UserFile(data), secret: await secretOf(options), issuer, audience });
}

async function secretOf({ authSecretFile, data }: ResolvedOptions): Promise<string> {
  if (authSecretFile === undefined) return ensureSecret(data);
  let secret: string;
  try {
    secret = readFileSync(authSecretFile, 'utf8').trim();
  } catch (error) {
    const why = toHubError(error).message;
    throw new HubError('invalid-argument', `the secret ${authSecretFile} cannot be read: ${why}`, { cause: error });
  }
  checkSecret(secret, authSecretFile);
  return secret;
}
