import { hashOf } from '../flow/hash.ts';
import { TransitMap } from '../flow/transit-map.ts';
import { EndedCommands } from './ended-commands.ts';
import type { PendingCommand } from './pending-command.ts';

/** Commands that ended at about the same time: remembered one by one, forgotten all at once. */
interface Generation {
  readonly commands: EndedCommands;
  /** Ids by idempotency key. */
  readonly ids: Map<string, string>;
  bytes: number;
}

/**
 * Every command that this process knows: those on their way, and the newest of those that have ended. Of the ended there
 * are two generations, and the older one is dropped whole when the younger is full: to forget them one by one would
 * mean to look at each, long after it has left every cache, and cost more than all else here. So between half and all
 * of what the limits allow is remembered.
 */
export class CommandRegistry {
  readonly #open = new TransitMap<PendingCommand>();
  readonly #openByKey = new TransitMap<PendingCommand>();
  #young: Generation = { commands: new EndedCommands(), ids: new Map(), bytes: 0 };
  #old: Generation = { commands: new EndedCommands(), ids: new Map(), bytes: 0 };
  readonly #maxEnded: number;
  readonly #maxEndedBytes: number;

  /** `maxEnded` and `maxEndedBytes`: of both generations. One command may weigh half of `maxEndedBytes`. */
  constructor(limits: { readonly maxEnded: number; readonly maxEndedBytes: number }) {
    this.#maxEnded = Math.floor(limits.maxEnded / 2);
    this.#maxEndedBytes = limits.maxEndedBytes / 2;
  }

  /** One that has ended may be made anew for each who asks. */
  get(id: string): PendingCommand | undefined {
    const hash = hashOf(id);
    return this.#open.get(id, hash) ?? this.#young.commands.get(id, hash) ?? this.#old.commands.get(id, hash);
  }

  /** The live command that was accepted with this key. */
  withKey(tenant: string, clientId: string, key: string): PendingCommand | undefined {
    const name = liveKey(tenant, clientId, key);
    const open = this.#openByKey.get(name);
    if (open !== undefined) return open;
    const id = this.#young.ids.get(name) ?? this.#old.ids.get(name);
    return id === undefined ? undefined : this.get(id);
  }

  add(pending: PendingCommand): void {
    this.#open.set(pending.id, pending, pending.hash);
    const key = keyOf(pending);
    if (key !== undefined) this.#openByKey.set(key, pending);
  }

  /** Keeps an ended command for a while. */
  ended(pending: PendingCommand): void {
    const key = keyOf(pending);
    this.#open.delete(pending.id, pending.hash);
    if (key !== undefined) this.#openByKey.delete(key);
    const bytes = bytesOf(pending);
    if (this.#maxEnded === 0 || bytes > this.#maxEndedBytes) return;
    if (this.#young.commands.size >= this.#maxEnded || this.#young.bytes + bytes > this.#maxEndedBytes)
      this.#nextGeneration();
    this.#young.bytes += bytes;
    this.#young.commands.add(pending);
    if (key !== undefined) this.#young.ids.set(key, pending.id);
  }

  /** Forgets one that has not ended. */
  forget(pending: PendingCommand): void {
    this.#open.delete(pending.id, pending.hash);
    const key = keyOf(pending);
    if (key !== undefined) this.#openByKey.delete(key);
  }

  get size(): number {
    return this.#open.size + this.#young.commands.size + this.#old.commands.size;
  }

  /** Those that have not ended. */
  open(): PendingCommand[] {
    return this.#open.values();
  }

  *[Symbol.iterator](): IterableIterator<PendingCommand> {
    yield* this.#open.values();
    yield* this.#old.commands;
    yield* this.#young.commands;
  }

  #nextGeneration(): void {
    const forgotten = this.#old;
    this.#old = this.#young;
    forgotten.commands.clear();
    forgotten.ids.clear();
    forgotten.bytes = 0;
    this.#young = forgotten;
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
