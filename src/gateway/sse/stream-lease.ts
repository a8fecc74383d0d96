import type { Principal } from '../../auth/principal.ts';
import type { Lease } from '../../leases/index.ts';
import type { Room } from '../room.ts';

/**
 * A place among the streams of the caller, in all gateways that share a store; undefined where there is no such limit.
 * Nobody owns `anonymous`. Throws `stream-limit-exceeded` when all places are taken.
 */
export async function acquireStreamLease(
  { options }: Room,
  { subject, tenant }: Principal,
): Promise<Lease | undefined> {
  if (options.leases === undefined || subject === 'anonymous') return undefined;
  return options.leases.acquire(subject, { tenant });
}
