import { Deque } from '../flow/deque.ts';
import type { PendingCommand } from './pending-command.ts';

/** Every command that this process knows: those on their way, and the newest of those that have ended. */
export class CommandRegistry {
  readonly #byId = new Map<string, PendingCommand>();
  readonly #byKey = new Map<string, PendingCommand>();
  /** Ended ones, oldest first. */
  readonly #ended = new Deque<PendingCommand>();
  #endedBytes = 0;
  readonly #maxEnded: number;
  readonly #maxEndedBytes: number;

  constructor(limits: { readonly maxEnded: number; readonly maxEndedBytes: number }) {
    this.#maxEnded = limits.maxEnded;
    this.#maxEndedBytes = limits.maxEndedBytes;
  }

  get(id: string): PendingCommand | undefined {
    return this.#byId.get(id);
  }

  /** The live command that was accepted with this key. */
  withKey(tenant: string, clientId: string, key: string): PendingCommand | undefined {
    return this.#byKey.get(liveKey(tenant, clientId, key));
  }

  add(pending: PendingCommand): void {
    this.#byId.set(pending.id, pending);
    const { idempotencyKey, tenant, clientId } = pending.command;
    if (idempotencyKey !== undefined && !pending.isQueued)
      this.#byKey.set(liveKey(tenant, clientId, idempotencyKey), pending);
  }

  /** Keeps an ended command for a while, and forgets the oldest beyond the limits. */
  ended(pending: PendingCommand): void {
    this.#ended.push(pending);
    this.#endedBytes += bytesOf(pending);
    while (this.#ended.size > this.#maxEnded || this.#endedBytes > this.#maxEndedBytes) {
      const oldest = this.#ended.shift();
      if (!oldest) break;
      this.#endedBytes -= bytesOf(oldest);
      this.forget(oldest);
    }
  }

  forget(pending: PendingCommand): void {
    this.#byId.delete(pending.id);
    const { idempotencyKey, tenant, clientId } = pending.command;
    if (idempotencyKey !== undefined && !pending.isQueued)
      this.#byKey.delete(liveKey(tenant, clientId, idempotencyKey));
  }

  get size(): number {
    return this.#byId.size;
  }

  [Symbol.iterator](): IterableIterator<PendingCommand> {
    return this.#byId.values();
  }
}

const liveKey = (tenant: string, clientId: string, key: string): string => `${tenant}/${clientId}/${key}`;

// What a record weighs beside its payloads: objects, ids, history.
const recordBytes = 1024;

function bytesOf({ command, last }: PendingCommand): number {
  return recordBytes + command.payload.value.length + (last.state === 'succeeded' ? last.result.value.length : 0);
}
