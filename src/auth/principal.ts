/** What a principal may do. `events:read` can be narrowed by channel patterns. */
export const scopes = [
  'device',
  'commands:send',
  'events:read',
  'events:publish',
  'clients:read',
  'tasks:run',
  'tasks:read',
  'admin',
] as const;
export type Scope = (typeof scopes)[number];

/** Whether it is one of ours: identity providers put other words into the same claim. */
export function isScope(word: string): word is Scope {
  return (scopes as readonly string[]).includes(word);
}

/** Who is calling, as the credential says; never as the message says. */
export interface Principal {
  /** The credential's subject: a user, a service, a device. `anonymous` on an open loopback hub. */
  readonly subject: string;
  readonly tenant: string;
  readonly scopes: ReadonlySet<Scope>;
  /** With scope `device`: the only client id it may connect as. Undefined on an open loopback hub: any. */
  readonly clientId?: string | undefined;
  /** Channel patterns it may read (`client.*`, `user.ann`); `*` stands for the rest of a name. Undefined: all. */
  readonly channels?: readonly string[] | undefined;
  /** Unix ms at which the credential ends, and every open stream with it. */
  readonly expiresAtMs?: number | undefined;
}

/** What a caller brings. */
export interface Credentials {
  /** The token of `Authorization: Bearer`. */
  readonly bearer?: string | undefined;
  /** A one-use ticket from the URL. */
  readonly ticket?: string | undefined;
  /** The verified client certificate. */
  readonly certificate?:
    | {
        readonly commonName: string;
        readonly dnsNames: readonly string[];
        readonly organization?: string | undefined;
        readonly expiresAtMs?: number | undefined;
      }
    | undefined;
}

/** Tells who is calling. */
export interface Authenticator {
  /** The credential that it looks at, for `firstOf` to choose by. Undefined: none in particular. */
  readonly reads?: keyof Credentials | undefined;
  /** Throws a `HubError` `unauthenticated` that says what is wrong and never repeats the secret. */
  authenticate(credentials: Credentials): Promise<Principal>;
}
