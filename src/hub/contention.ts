import type { Client } from './client.ts';
import type { Settings } from './options.ts';

/** Takeovers of one client within this many ms count as a fight for its id. */
const contentionMs = 10_000;

/** How long a stream that lost its client to another program is to stay away, in ms: the longer, the more often it happens. */
export function contention(client: Client, settings: Settings): number {
  const { clock, observe } = settings;
  const now = clock.monotonic();
  const { fight } = client;
  // Who was sent away comes back when its time is over: that is the same fight, however long the time was.
  const goesOn = fight !== undefined && now - fight.atMs < fight.retryAfterMs + contentionMs;
  const takeovers = goesOn ? fight.takeovers + 1 : 1;
  const retryAfterMs = Math.min(60_000, 1000 * 2 ** (takeovers - 1));
  client.fight = { takeovers, atMs: now, retryAfterMs };
  if (takeovers >= 3)
    observe({ kind: 'client-contended', tenant: client.tenant, clientId: client.id, takeovers, retryAfterMs });
  return retryAfterMs;
}
