import type { Command, CommandUpdate } from '../protocol/command.ts';

/** A client that a hub wants to hold. */
export interface ClaimedClient {
  readonly tenant: string;
  readonly clientId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly agent: string;
  readonly peer: string;
}

/** A live command that has not ended, as one hub hands it to the next together with its device. */
export interface HandedCommand {
  /** Its `timeoutMs` is what is left of it. */
  readonly command: Command;
  /** Unix ms. */
  readonly acceptedAtMs: number;
  readonly last: CommandUpdate;
  /** Journal of the device that it was written to; undefined: certainly never written. */
  readonly journal?: string | undefined;
  /** Set where somebody asked for a cancel. */
  readonly cancelReason?: string | undefined;
}

export interface Claim {
  readonly epoch: number;
  /** Of the claim before this one, on whatever node; 0: none is known. */
  readonly lastEpoch: number;
  /** What the hub that had the client until now had on its way to it. Comes within about a second; never rejects. */
  readonly handed: Promise<readonly HandedCommand[]>;
}

/**
 * Where a hub that is one of several asks whether it may hold a client. A hub without it decides alone, at once. The
 * other way round the hub is told of a lost client by `lost` or `yield`.
 */
export interface ClientClaims {
  /** This hub, as the directory knows it now. */
  readonly instance: string;
  /** Whether this hub is meant, now or under an instance that it had before. */
  isOwn(instance: string): boolean;
  /** Makes this hub the holder, with an epoch above `afterEpoch`. Rejects with `unavailable` when that cannot be had. */
  claim(client: ClaimedClient, afterEpoch: number): Promise<Claim>;
  /** The client has left. Changes nothing if it was claimed again since. */
  release(tenant: string, clientId: string, epoch: number): void;
  /** Which of these are held by another hub: in the same order. */
  heldElsewhere(clients: readonly { readonly tenant: string; readonly clientId: string }[]): Promise<boolean[]>;
}
