import type { ClientClaims } from './client-claims.ts';
import { type CommandOwner, FencedError, type Hold } from './command-store.ts';

/** What is asked of a client. */
type HeldClient = { readonly session: unknown; readonly epoch: number };

/** What this hub's writes to a shared store say about whose client it is, so that the store can refuse stale ones. */
export class Holds {
  readonly #claims: ClientClaims | undefined;
  readonly #clientOf: (tenant: string, clientId: string) => HeldClient | undefined;
  readonly #lost: (tenant: string, clientId: string, epoch: number) => void;

  constructor(
    claims: ClientClaims | undefined,
    clientOf: (tenant: string, clientId: string) => HeldClient | undefined,
    lost: (tenant: string, clientId: string, epoch: number) => void,
  ) {
    this.#claims = claims;
    this.#clientOf = clientOf;
    this.#lost = lost;
  }

  /** Undefined where this hub is the only one. A client that is not connected here is to be nobody's. */
  of({ tenant, clientId }: CommandOwner): Hold | 'nobody' | undefined {
    if (!this.#claims) return undefined;
    const client = this.#clientOf(tenant, clientId);
    return client?.session ? { instance: this.#claims.instance, epoch: client.epoch } : 'nobody';
  }

  /** Looks at why a write failed. True: another hub has the client, and this one lets go of it. */
  isLost(cause: unknown, { tenant, clientId }: CommandOwner): boolean {
    if (!(cause instanceof FencedError) || !cause.holder || !this.#claims) return false;
    if (this.#claims.isOwn(cause.holder.instance)) return false;
    this.#lost(tenant, clientId, cause.holder.epoch);
    return true;
  }
}
