import type { HubErrorCode } from '../errors.ts';
import type { DatabaseOptions } from './database.ts';
import type { EventRetention } from './event-table.ts';
import type { StoreOperation } from './store-operations.ts';

// What the main thread and the store's thread say to each other. Always in batches: a message costs more than a call.

export interface ThreadOptions extends DatabaseOptions {
  readonly retention: EventRetention;
}

/** To the thread: calls in their order, or the word to end. */
export type ToThread = Batch | 'close';
export interface Batch {
  readonly calls: readonly Call[];
  /** Failures that the sender knew of. Writes that were sent before it heard of the newest one are refused, so that
   *  nothing overtakes what failed. */
  readonly failures: number;
}
export type Call = readonly [id: number, operation: StoreOperation, args: readonly unknown[]];

/** From the thread. */
export type FromThread =
  | { readonly kind: 'opened' }
  | { readonly kind: 'not-opened'; readonly error: ThrownError }
  | {
      readonly kind: 'answers';
      readonly answers: readonly Answer[];
      readonly health: Health;
      readonly failures: number;
    };

export type Answer =
  | readonly [id: number, value: unknown]
  | readonly [id: number, value: undefined, error: ThrownError];

export interface ThrownError {
  readonly code: HubErrorCode;
  readonly message: string;
}

/** Whether the store takes writes. `full` may pass, `broken` lasts until the process is started again. */
export type Health = { readonly state: 'well' } | { readonly state: 'full' | 'broken'; readonly reason: string };
