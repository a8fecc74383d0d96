import type { HubError } from '../errors.ts';

/** What the Redis side tells about itself. */
export type RedisFact =
  /** It is not there at the start, and waited for. Told once. */
  | { readonly kind: 'redis-awaited'; readonly message: string }
  /** Nothing can be written or read for now; it is tried again until it works. Told once for each outage. */
  | { readonly kind: 'redis-lost'; readonly error: HubError }
  | { readonly kind: 'redis-back'; readonly afterMs: number }
  /** What was kept is gone: it came back empty, or another server is there now. Told once for each time. */
  | { readonly kind: 'redis-emptied'; readonly message: string }
  /** It works, but not as it should: a setting, a replica that is missing. */
  | { readonly kind: 'redis-advice'; readonly message: string }
  /** Something in the background went wrong; it is tried again. */
  | { readonly kind: 'redis-trouble'; readonly error: HubError };
