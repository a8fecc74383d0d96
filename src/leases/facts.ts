import type { HubError } from '../errors.ts';

/** What leases tell about themselves. */
export type LeaseFact =
  /** All places of a user were taken. */
  | { readonly kind: 'lease-refused'; readonly key: string; readonly held: number; readonly retryAfterMs: number }
  /** A lease ended under its holder: the store had forgotten it, or could not be asked in time. */
  | { readonly kind: 'lease-lost'; readonly key: string; readonly leaseId: string; readonly reason: string }
  /** The store could not be asked; it is tried again as long as the lease lasts. */
  | {
      readonly kind: 'lease-store-failed';
      readonly call: 'refresh' | 'release';
      readonly key: string;
      readonly leaseId: string;
      readonly error: HubError;
    };
