import type { HubError } from '../errors.ts';

/** Where a device stands. */
export type DeviceState =
  /** `attempt` counts from 1 since the last stable session. */
  | { readonly kind: 'connecting'; readonly attempt: number }
  | {
      readonly kind: 'connected';
      readonly session: string;
      readonly epoch: number;
      /** Whether the session before this stream goes on. */
      readonly resumed: boolean;
      /** The id by which the hub knows this device. */
      readonly clientId: string;
      /** The hub's node, for people. */
      readonly node: string;
    }
  /** Connects again after `retryInMs`. */
  | { readonly kind: 'waiting'; readonly retryInMs: number; readonly reason: string }
  | { readonly kind: 'closed'; readonly end: DeviceEnd };

/** How a device came to its end. */
export type DeviceEnd =
  /** `close()` was called. */
  | { readonly kind: 'closed' }
  /** The hub does not want this device, and trying again would not change that. */
  | { readonly kind: 'refused'; readonly error: HubError };
