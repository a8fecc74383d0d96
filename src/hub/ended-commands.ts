import {
  beginPacking,
  beginUnpacking,
  endPacking,
  giveUpPacking,
  isPackedText,
  packBytes,
  packCount,
  packNumber,
  packTextOrNothing,
  unpackBytes,
  unpackCount,
  unpackNumber,
  unpackTextOrNothing,
} from '../flow/packing.ts';
import { CommandTrail } from './command-trail.ts';
import { PendingCommand } from './pending-command.ts';

const pageBytes = 64 * 1024;
/** Larger ones stay objects: there are few of these to so many bytes. */
const largestPacked = 4096;

/**
 * Commands that have ended, by id. Plain ones are kept as bytes (see `packing.ts`) and made anew for whoever asks; those
 * that made progress stay what they are. A table of numbers says where an id may be: nearly every id that is asked for is new, and
 * a look into that says so.
 */
export class EndedCommands {
  /** Pairs: an id's hash, and where its command is: above 0 in a page (in eights of bytes, from 1), below 0 among the objects. */
  #table = new Int32Array(2 * 1024);
  #size = 0;
  readonly #pages: Uint8Array[] = [];
  #page = 0;
  #used = 0;
  readonly #objects: PendingCommand[] = [];

  get size(): number {
    return this.#size;
  }

  /** `hash`: of the id, by `hashOf`. */
  get(id: string, hash: number): PendingCommand | undefined {
    const place = this.#table[this.#find(id, hash) + 1]!;
    return place === 0 ? undefined : this.#at(place);
  }

  /** Takes over one that has ended. */
  add(pending: PendingCommand): void {
    if (this.#size * 4 >= this.#table.length) this.#widen();
    const { id, hash } = pending;
    const slot = this.#find(id, hash);
    if (this.#table[slot + 1] === 0) this.#size++;
    this.#table[slot] = hash;
    this.#table[slot + 1] = this.#pack(pending) || -this.#objects.push(pending);
  }

  /** Forgets all of them; the pages are used again. */
  clear(): void {
    this.#table.fill(0);
    this.#size = 0;
    this.#page = 0;
    this.#used = 0;
    this.#objects.length = 0;
  }

  *[Symbol.iterator](): IterableIterator<PendingCommand> {
    for (let slot = 1; slot < this.#table.length; slot += 2) {
      const place = this.#table[slot]!;
      if (place !== 0) yield this.#at(place);
    }
  }

  /** The pair of this id, or the free one where it belongs. */
  #find(id: string, hash: number): number {
    const table = this.#table;
    const last = table.length - 1;
    let slot = (hash << 1) & last;
    for (; table[slot + 1] !== 0; slot = (slot + 2) & last)
      if (table[slot] === hash && this.#isAt(table[slot + 1]!, id)) break;
    return slot;
  }

  #isAt(place: number, id: string): boolean {
    if (place < 0) return this.#objects[-place - 1]!.id === id;
    return isPackedText(this.#pageOf(place), offsetOf(place), id);
  }

  #at(place: number): PendingCommand {
    return place < 0 ? this.#objects[-place - 1]! : unpacked(this.#pageOf(place), offsetOf(place));
  }

  #pageOf(place: number): Uint8Array {
    return this.#pages[Math.floor((8 * (place - 1)) / pageBytes)]!;
  }

  /** Where it was written; 0 if it has to stay what it is. */
  #pack(pending: PendingCommand): number {
    if (this.#used > pageBytes - largestPacked) {
      this.#page++;
      this.#used = 0;
    }
    this.#pages[this.#page] ??= new Uint8Array(pageBytes);
    const end = pack(pending, this.#pages[this.#page]!, this.#used);
    if (end === 0 || end - this.#used > largestPacked) return 0;
    const place = (this.#page * pageBytes + this.#used) / 8 + 1;
    this.#used = (end + 7) & ~7;
    return place;
  }

  #widen(): void {
    const old = this.#table;
    this.#table = new Int32Array(2 * old.length);
    const last = this.#table.length - 1;
    for (let from = 0; from < old.length; from += 2) {
      if (old[from + 1] === 0) continue;
      let to = (old[from]! << 1) & last;
      while (this.#table[to + 1] !== 0) to = (to + 2) & last;
      this.#table[to] = old[from]!;
      this.#table[to + 1] = old[from + 1]!;
    }
  }
}

const offsetOf = (place: number): number => (8 * (place - 1)) % pageBytes;

const isIdempotent = 1;
const isQueued = 2;
const wasFound = 4;
const missesSteps = 8;

/** The end of what was written; 0 for a command that has more to tell, or does not fit. */
function pack(pending: PendingCommand, page: Uint8Array, at: number): number {
  const { command, trail, position } = pending;
  beginPacking(page, at);
  if ((position !== undefined) !== (command.whenOffline === 'queue')) giveUpPacking();
  trail.packInto();
  packCount(
    (command.idempotent ? isIdempotent : 0) |
      (position === undefined ? 0 : isQueued) |
      (pending.wasFound ? wasFound : 0) |
      (pending.missesSteps ? missesSteps : 0),
  );
  if (position !== undefined) packNumber(position);
  packTextOrNothing(command.tenant);
  packCount(command.timeoutMs);
  packCount(command.waitForConnectMs);
  packCount(command.ttlMs);
  packTextOrNothing(command.idempotencyKey);
  packTextOrNothing(command.orderingKey);
  packTextOrNothing(command.coalesceKey);
  packTextOrNothing(command.traceparent);
  packBytes(command.payload.value);
  return endPacking();
}

function unpacked(page: Uint8Array, at: number): PendingCommand {
  beginUnpacking(page, at);
  const trail = CommandTrail.unpackNext();
  const flags = unpackCount()!;
  const position = (flags & isQueued) === 0 ? undefined : unpackNumber();
  const command = {
    id: trail.commandId,
    tenant: unpackTextOrNothing()!,
    clientId: trail.clientId,
    whenOffline: position === undefined ? ('fail' as const) : ('queue' as const),
    timeoutMs: unpackCount()!,
    waitForConnectMs: unpackCount()!,
    ttlMs: unpackCount()!,
    idempotent: (flags & isIdempotent) !== 0,
    idempotencyKey: unpackTextOrNothing(),
    orderingKey: unpackTextOrNothing(),
    coalesceKey: unpackTextOrNothing(),
    traceparent: unpackTextOrNothing(),
    payload: { type: trail.type, value: unpackBytes() },
  };
  const { acceptedAtMs } = trail;
  const pending = new PendingCommand(command, { acceptedAtMs, monotonic: 0, position, trail }, () => undefined);
  pending.wasFound = (flags & wasFound) !== 0;
  pending.missesSteps = (flags & missesSteps) !== 0;
  return pending;
}
