import type { Client } from './client.ts';
import type { Settings } from './options.ts';

/** Takeovers of one client within this many ms count as a fight for its id. */
const contentionMs = 10_000;

/** How long a stream that lost its client to another program is to stay away, in ms: the longer, the more often it happens. */
export function contention(client: Client, settings: Settings): number {
  const { clock, observe } = settings;
  const now = clock.monotonic();
  client.takeovers = [...client.takeovers.filter((at) => now - at < contentionMs), now].slice(-32);
  const takeovers = client.takeovers.length;
  const retryAfterMs = Math.min(60_000, 1000 * 2 ** (takeovers - 1));
  if (takeovers >= 3)
    observe({ kind: 'client-contended', tenant: client.tenant, clientId: client.id, takeovers, retryAfterMs });
  return retryAfterMs;
}
