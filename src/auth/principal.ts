/** What a principal may do. `events:read` and `clients:read` can be narrowed by patterns. */
export type Scope = 'device' | 'commands:send' | 'events:read' | 'events:publish' | 'clients:read' | 'admin';

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
  /** Throws a `HubError` `unauthenticated` that says what is wrong and never repeats the secret. */
  authenticate(credentials: Credentials): Promise<Principal>;
}
