export {
  hasScope,
  isChannelPattern,
  matchesChannel,
  mayReadChannel,
  requireChannel,
  requireClientId,
  requireScope,
} from './access.ts';
export { checkSecret } from './check-secret.ts';
export { ensureSecret } from './ensure-secret.ts';
export { firstOf } from './first-of.ts';
export { type JwtAlgorithm, type JwtAuthenticatorOptions, jwtAuthenticator } from './jwt-authenticator.ts';
export { type MintTokenOptions, mintToken } from './mint-token.ts';
export { type MtlsAuthenticatorOptions, mtlsAuthenticator } from './mtls-authenticator.ts';
export { openAuthenticator } from './open-authenticator.ts';
export { type LoggedIn, type Login, type PasswordLoginOptions, passwordLogin } from './password-login.ts';
export { type Authenticator, type Credentials, isScope, type Principal, type Scope, scopes } from './principal.ts';
export { TicketBooth, type TicketBoothOptions, ticketBooth } from './ticket-booth.ts';
export { type User, UserFile } from './user-file.ts';
