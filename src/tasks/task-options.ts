import type { WhenFull } from './run.ts';

/** Where `run` runs. */
export type Isolation =
  /** In the worker's own event loop. */
  | 'inline'
  /** In a thread: work that needs the CPU blocks nobody. */
  | 'thread'
  /** In a process of its own: a crash or a leak harms nobody. */
  | 'process';

export interface RetryOptions {
  /** Attempts in all, the first one included. Default: 1. */
  readonly attempts?: number;
  /** Upper end of the first wait, in ms; it doubles with each attempt, and a random part of it is waited. Default: 1000. */
  readonly minMs?: number;
  /** Upper end that no wait exceeds, in ms. Default: 60,000. */
  readonly maxMs?: number;
  /** Whether trying again makes sense. Default: unless the error is a `HubError` `invalid-argument`. */
  readonly when?: (error: { readonly code: string; readonly message: string }) => boolean;
}

export interface TimeoutOptions {
  /** Most time of one attempt, in ms. Default: none. */
  readonly attemptMs?: number;
  /** Most time of the whole run from when it is due, waiting and all attempts included, in ms. Default: none. */
  readonly totalMs?: number;
  /** How long an attempt that was told to stop may take to do so, in ms. Default: 5000. */
  readonly graceMs?: number;
}

export interface ConcurrencyOptions<Value> {
  /** Runs with the same key share the limit. Default: all runs of the task. */
  readonly key?: string | ((input: Value) => string);
  /** Runs of one key at once. Default: 1. */
  readonly limit?: number;
  /** What happens to a run when as many are active. Default: `queue`. */
  readonly onFull?: WhenFull;
}
