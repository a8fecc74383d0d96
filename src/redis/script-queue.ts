import { HubError } from '../errors.ts';
import type { Argument, RedisConnection, Script } from './connection.ts';
import { shardPrefix } from './keys.ts';
import { troubleOf } from './trouble.ts';

/** Operations and bytes that go as one call; such a call holds up Redis for about a millisecond. */
const batchSize = 64;
const batchBytes = 1024 * 1024;
/** Calls under way at once: one is carried out while the answer to the other is on its way. */
const underWay = 2;
/** Operations, and bytes, that may wait altogether; beyond it they are refused. */
const maxWaiting = 50_000;
const maxWaitingBytes = 64 * 1024 * 1024;

/** An answer of a script: texts are Buffers. */
export type Reply = Buffer | number | null | Reply[];

interface Waiting {
  readonly args: readonly Argument[];
  readonly bytes: number;
  readonly deadline: number;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: HubError) => void;
}

/** What goes to one place: all of it to a single server, a shard to the member of a cluster that has it. */
interface Lane {
  readonly key: string;
  readonly queue: Waiting[];
  calls: number;
  isScheduled: boolean;
}

/**
 * Gathers the operations of many callers into few calls of one script, which carries them out one after the other. Each
 * operation must be one that may be repeated: after a lost answer it is.
 */
export class ScriptQueue {
  readonly #connection: RedisConnection;
  readonly #script: Script;
  readonly #replicas: number;
  readonly #lanes = new Map<number, Lane>();
  #waiting = 0;
  #waitingBytes = 0;

  /** `replicas`: as many have to have a write before it is answered. */
  constructor(connection: RedisConnection, script: Script, replicas = 0) {
    this.#connection = connection;
    this.#script = script;
    this.#replicas = replicas;
  }

  get isCluster(): boolean {
    return this.#connection.isCluster;
  }

  /** Carries out one operation on a shard. `bytes`: size of what is carried, about. Rejects with `unavailable` in time. */
  call(shard: number, operation: string, args: readonly Argument[], bytes = 256): Promise<Reply> {
    if (this.#waiting >= maxWaiting || this.#waitingBytes + bytes > maxWaitingBytes)
      return Promise.reject(
        new HubError('unavailable', `${this.#waiting} calls (${this.#waitingBytes} bytes) wait for Redis, the limit`, {
          retryAfterMs: 1000,
        }),
      );
    return new Promise((resolve, reject) => {
      const { clock, timeoutMs } = this.#connection.settings;
      const deadline = clock.monotonic() + timeoutMs;
      const lane = this.#laneOf(shard);
      this.#waiting++;
      this.#waitingBytes += bytes;
      lane.queue.push({ args: [operation, shard, ...args], bytes, deadline, resolve, reject });
      this.#schedule(lane);
    });
  }

  #laneOf(shard: number): Lane {
    const id = this.#connection.isCluster ? shard : 0;
    let lane = this.#lanes.get(id);
    if (!lane) {
      lane = { key: shardPrefix(this.#connection.prefix, id), queue: [], calls: 0, isScheduled: false };
      this.#lanes.set(id, lane);
    }
    return lane;
  }

  /** After this turn of the event loop: what else it brings goes along. */
  #schedule(lane: Lane): void {
    if (lane.isScheduled || lane.calls >= underWay) return;
    lane.isScheduled = true;
    setImmediate(() => {
      lane.isScheduled = false;
      while (lane.queue.length > 0 && lane.calls < underWay) this.#flush(lane);
    });
  }

  #flush(lane: Lane): void {
    let bytes = 0;
    let count = 0;
    while (count < lane.queue.length && count < batchSize && (count === 0 || bytes < batchBytes))
      bytes += lane.queue[count++]!.bytes;
    const batch = lane.queue.splice(0, count);
    lane.calls++;
    void this.#carryOut(lane, batch).finally(() => {
      lane.calls--;
      this.#waiting -= count;
      this.#waitingBytes -= bytes;
      if (lane.queue.length > 0) this.#schedule(lane);
    });
  }

  /** Never rejects: each operation has its own answer. */
  async #carryOut(lane: Lane, batch: readonly Waiting[]): Promise<void> {
    const args: Argument[] = [`${this.#connection.prefix}:{`];
    for (const waiting of batch) args.push(...waiting.args);
    try {
      const deadline = batch[0]!.deadline;
      const replies = await this.#connection.run(this.#script, [lane.key], args, {
        deadline,
        replicas: this.#replicas,
      });
      for (const [i, reply] of (replies as Reply[]).entries()) batch[i]!.resolve(reply);
    } catch (cause) {
      const { kind, error } = troubleOf(cause);
      if (kind === 'fault' && batch.length > 1) {
        // One of them is at fault: the others do not have to suffer for it.
        for (const waiting of batch) await this.#carryOut(lane, [waiting]);
        return;
      }
      // Those that came later fail early with the oldest: all of them may be tried again.
      for (const waiting of batch) waiting.reject(error);
    }
  }
}
