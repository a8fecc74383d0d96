import type { PendingCommand } from './pending-command.ts';

/** Commands that ended at about the same time: remembered one by one, forgotten all at once. */
class Generation {
  readonly byId = new Map<string, PendingCommand>();
  readonly byKey = new Map<string, PendingCommand>();
  bytes = 0;
  /** One bit for all ids of one hash. Nearly every id that is asked for is new: a look into this little table says so. */
  readonly #mayHold = new Uint8Array(2 ** hashBits / 8);

  find(id: string): PendingCommand | undefined {
    const hash = hashOf(id);
    return (this.#mayHold[hash >> 3]! & (1 << (hash & 7))) === 0 ? undefined : this.byId.get(id);
  }

  add(id: string, pending: PendingCommand): void {
    const hash = hashOf(id);
    this.#mayHold[hash >> 3]! |= 1 << (hash & 7);
    this.byId.set(id, pending);
  }
}

const hashBits = 17;

/** Of the beginning of an id, which is random in those that our callers make; others only cost a look more. */
function hashOf(id: string): number {
  let hash = 0;
  for (let i = Math.min(id.length, 8) - 1; i >= 0; i--) hash = (hash * 31 + id.charCodeAt(i)) | 0;
  return (hash ^ (hash >>> hashBits)) & (2 ** hashBits - 1);
}

/**
 * Every command that this process knows: those on their way, and the newest of those that have ended. Of the ended there
 * are two generations, and the older one is dropped whole when the younger is full: to forget them one by one would
 * mean to look at each, long after it has left every cache, and cost more than all else here. So between half and all
 * of what the limits allow is remembered.
 */
export class CommandRegistry {
  readonly #open = new Map<string, PendingCommand>();
  readonly #openByKey = new Map<string, PendingCommand>();
  #young = new Generation();
  #old = new Generation();
  readonly #maxEnded: number;
  readonly #maxEndedBytes: number;

  /** `maxEnded` and `maxEndedBytes`: of both generations. One command may weigh half of `maxEndedBytes`. */
  constructor(limits: { readonly maxEnded: number; readonly maxEndedBytes: number }) {
    this.#maxEnded = Math.floor(limits.maxEnded / 2);
    this.#maxEndedBytes = limits.maxEndedBytes / 2;
  }

  get(id: string): PendingCommand | undefined {
    return this.#open.get(id) ?? this.#young.find(id) ?? this.#old.find(id);
  }

  /** The live command that was accepted with this key. */
  withKey(tenant: string, clientId: string, key: string): PendingCommand | undefined {
    const name = liveKey(tenant, clientId, key);
    return this.#openByKey.get(name) ?? this.#young.byKey.get(name) ?? this.#old.byKey.get(name);
  }

  add(pending: PendingCommand): void {
    this.#open.set(pending.id, pending);
    const key = keyOf(pending);
    if (key !== undefined) this.#openByKey.set(key, pending);
  }

  /** Keeps an ended command for a while. */
  ended(pending: PendingCommand): void {
    const key = keyOf(pending);
    this.#open.delete(pending.id);
    if (key !== undefined) this.#openByKey.delete(key);
    const bytes = bytesOf(pending);
    if (this.#maxEnded === 0 || bytes > this.#maxEndedBytes) return;
    if (this.#young.byId.size >= this.#maxEnded || this.#young.bytes + bytes > this.#maxEndedBytes) {
      this.#old = this.#young;
      this.#young = new Generation();
    }
    this.#young.bytes += bytes;
    this.#young.add(pending.id, pending);
    if (key !== undefined) this.#young.byKey.set(key, pending);
  }

  /** Forgets one that has not ended. */
  forget(pending: PendingCommand): void {
    this.#open.delete(pending.id);
    const key = keyOf(pending);
    if (key !== undefined) this.#openByKey.delete(key);
  }

  get size(): number {
    return this.#open.size + this.#young.byId.size + this.#old.byId.size;
  }

  *[Symbol.iterator](): IterableIterator<PendingCommand> {
    yield* this.#open.values();
    yield* this.#old.byId.values();
    yield* this.#young.byId.values();
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
