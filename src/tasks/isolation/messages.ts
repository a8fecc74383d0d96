import type { HubErrorCode } from '../../errors.ts';
import type { Job } from '../perform.ts';
import type { RunError } from '../run.ts';
import type { StreamEvent } from '../stream-sink.ts';
import type { RoadAnswer, RoadAsk } from './command-road.ts';

// What a worker and a thread or process of its tasks say to each other. One job at a time.

export type ToHost =
  /** `hasRoad`: the worker has a road to devices, which the job may use. */
  | { readonly kind: 'job'; readonly job: Job; readonly module: string; readonly hasRoad: boolean }
  | { readonly kind: 'stop'; readonly code: HubErrorCode; readonly message: string }
  /** The answer to `event` or `checkpoint` number `n`. */
  | { readonly kind: 'kept'; readonly n: number; readonly error?: RunError }
  | RoadAnswer;

export type FromHost =
  | { readonly kind: 'event'; readonly n: number; readonly event: StreamEvent }
  | { readonly kind: 'checkpoint'; readonly n: number; readonly data: string }
  | { readonly kind: 'succeeded'; readonly result: string }
  | { readonly kind: 'failed'; readonly error: RunError }
  | RoadAsk;
