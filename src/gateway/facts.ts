import type { HubError } from '../errors.ts';
import type { StreamEnd } from './sse/watcher.ts';

/** What a gateway tells about itself. */
export type GatewayFact =
  | { readonly kind: 'gateway-listening'; readonly url: string }
  | {
      readonly kind: 'request-ended';
      readonly method: string;
      /** The route's pattern (`/v1/clients/:id`), never the URL: it has few values and no secrets. */
      readonly route: string;
      readonly status: number;
      /** False when the caller left before the whole answer was sent. */
      readonly isComplete: boolean;
      readonly durationMs: number;
    }
  /** Something went wrong inside; the caller was told no more than `internal`. */
  | { readonly kind: 'request-failed'; readonly method: string; readonly route: string; readonly error: HubError }
  | { readonly kind: 'stream-opened'; readonly subject: string; readonly channels: number; readonly open: number }
  | {
      readonly kind: 'stream-closed';
      readonly subject: string;
      readonly channels: number;
      readonly reason: StreamEnd;
      readonly openMs: number;
      /** Streams still open. */
      readonly open: number;
    }
  | { readonly kind: 'event-log-failed'; readonly channel: string; readonly error: HubError };
