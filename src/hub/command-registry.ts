import type { PendingCommand } from './pending-command.ts';

/** Every command that this process knows: those on their way, and the newest of those that have ended. */
export class CommandRegistry {
  readonly #byId = new Map<string, PendingCommand>();
  readonly #byKey = new Map<string, PendingCommand>();
  readonly #maxEnded: number;
  readonly #maxEndedBytes: number;
  // The ended ones, oldest first, as a ring of what is needed to forget them: an old command itself is not in any cache
  // any more, and to look at it only to let go of it would cost more than all else here.
  readonly #endedIds: string[] = [];
  readonly #endedBytes: number[] = [];
  #oldest = 0;
  #ended = 0;
  #bytes = 0;

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
    const key = keyOf(pending);
    if (key !== undefined) this.#byKey.set(key, pending);
  }

  /** Keeps an ended command for a while, and forgets the oldest beyond the limits. */
  ended(pending: PendingCommand): void {
    if (this.#maxEnded === 0) {
      this.forget(pending);
      return;
    }
    if (this.#ended === this.#maxEnded) this.#forgetOldest();
    const bytes = bytesOf(pending);
    const at = (this.#oldest + this.#ended++) % this.#maxEnded;
    this.#endedIds[at] = pending.id;
    this.#endedBytes[at] = bytes;
    this.#bytes += bytes;
    while (this.#bytes > this.#maxEndedBytes && this.#ended > 0) this.#forgetOldest();
  }

  forget(pending: PendingCommand): void {
    this.#byId.delete(pending.id);
    const key = this.#byKey.size === 0 ? undefined : keyOf(pending);
    if (key !== undefined) this.#byKey.delete(key);
  }

  get size(): number {
    return this.#byId.size;
  }

  [Symbol.iterator](): IterableIterator<PendingCommand> {
    return this.#byId.values();
  }

  #forgetOldest(): void {
    const id = this.#endedIds[this.#oldest]!;
    this.#bytes -= this.#endedBytes[this.#oldest]!;
    this.#endedIds[this.#oldest] = '';
    this.#oldest = (this.#oldest + 1) % this.#maxEnded;
    this.#ended--;
    if (this.#byKey.size === 0) this.#byId.delete(id);
    else {
      const pending = this.#byId.get(id);
      if (pending) this.forget(pending);
    }
  }
}

function keyOf({ command: { idempotencyKey, tenant, clientId }, isQueued }: PendingCommand): string | undefined {
  return idempotencyKey === undefined || isQueued ? undefined : liveKey(tenant, clientId, idempotencyKey);
}

const liveKey = (tenant: string, clientId: string, key: string): string => `${tenant}/${clientId}/${key}`;

// What a record weighs beside its payloads: objects, ids, times.
const recordBytes = 1024;

function bytesOf({ command, last }: PendingCommand): number {
  return recordBytes + command.payload.value.length + (last.state === 'succeeded' ? last.result.value.length : 0);
}
