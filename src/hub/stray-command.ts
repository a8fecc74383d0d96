import type { Command } from '../protocol/command.ts';
import type { Client } from './client.ts';
import { PendingCommand } from './pending-command.ts';

/** A device that never tells the end of what it has begun: after this many ms the hub gives it up. */
export const strayMs = 3_600_000;

/** Not one that a command may have when it is taken on. */
const unknownType = '?';

/**
 * A live command that this hub never got, and that a device has begun: the hub that had it is gone, or out of reach. All
 * that is known of it is its id, whose it is, and that it is under way. It is found by those alone who know its client:
 * a device may say of any id that it has begun it.
 */
export class StrayCommand extends PendingCommand {
  constructor(
    id: string,
    client: Client,
    at: { readonly nowMs: number; readonly monotonic: number },
    ring: (pending: PendingCommand) => void,
  ) {
    const { tenant, id: clientId, channel } = client;
    const command: Command = {
      id,
      tenant,
      clientId,
      payload: { type: unknownType, value: new Uint8Array(0) },
      whenOffline: 'fail',
      timeoutMs: strayMs,
      waitForConnectMs: 0,
      ttlMs: 0,
      idempotent: false,
    };
    const last = { commandId: id, clientId, state: 'started', atMs: at.nowMs } as const;
    super(command, { acceptedAtMs: at.nowMs, monotonic: at.monotonic, last, channel }, ring);
    this.place = 'in-flight';
    this.missesSteps = true;
  }
}

/** Also of one that has ended and was put away. */
export const isStray = ({ command }: { readonly command: Command }): boolean => command.payload.type === unknownType;
