import { HubError, toHubError } from '../errors.ts';
import type { EventArchive } from '../events/event-archive.ts';
import type { EventLog } from '../events/event-log.ts';
import { EventTail, type EventTailOptions } from '../events/event-tail.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { CommandStore } from '../hub/command-store.ts';
import type { LeaseStore } from '../leases/lease-store.ts';
import type { RunStore } from '../tasks/run-store.ts';
import { sqliteCommandStore } from './sqlite-command-store.ts';
import { sqliteEventArchive } from './sqlite-event-archive.ts';
import { SqliteEventLog } from './sqlite-event-log.ts';
import { sqliteLeaseStore } from './sqlite-lease-store.ts';
import { sqliteRunStore } from './sqlite-run-store.ts';
import { type StoreFact, StoreThread } from './store-thread.ts';

export interface SqliteOptions {
  /** Where the database lives; made (mode 0700) when it is not there. `:memory:` keeps everything in memory. */
  readonly directory: string;
  readonly clock?: Clock | undefined;
  /** Hears when the disk fails and when it is well again. Default: nobody listens. */
  readonly observe?: ((fact: StoreFact) => void) | undefined;
  /** What is kept of events in memory, durable or not. */
  readonly memory?: Omit<EventTailOptions, 'clock'> | undefined;
  /** Durable events kept per channel. Default: 10,000. */
  readonly maxEvents?: number | undefined;
  /** Bytes of data of durable events kept per channel. Default: 64 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** Durable events older than this are forgotten, in ms. Default: 7 days. */
  readonly maxEventAgeMs?: number | undefined;
  /** Durable events kept in all channels together. Default: 2,000,000. */
  readonly maxTotalEvents?: number | undefined;
  /** How often events beyond these limits are looked for, in ms. Default: 5,000. */
  readonly pruneEveryMs?: number | undefined;
  /** Size that the database may have; beyond it writes are refused until there is room. Default: the disk's. */
  readonly maxDatabaseBytes?: number | undefined;
  /** Calls that may wait for the disk; beyond it they are refused. Default: 50,000. */
  readonly maxWaitingCalls?: number | undefined;
  /** Bytes that may wait for the disk. Default: 64 MiB. */
  readonly maxWaitingBytes?: number | undefined;
  /** How long to wait for another program that reads or copies the database, in ms. Default: 5,000. */
  readonly busyTimeoutMs?: number | undefined;
}

/** The embedded store: one database, one thread that writes it, one process at a time. */
export interface SqliteStore {
  readonly commands: CommandStore;
  readonly log: EventLog;
  /** The durable events, to be looked for across channels. */
  readonly archive: EventArchive;
  /** Leases that outlive this process by their `ttlMs`, for what outlives it too. */
  readonly leases: LeaseStore;
  /** Runs of tasks. What another process had claimed before it ended is up to be claimed at once. */
  readonly runs: RunStore;
  /** Lets what was asked for end, then closes the database. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Events dropped in one transaction, so that others get their turn in between. */
const pruneSlice = 500;

/**
 * Opens the embedded store of a data directory. Throws `unavailable`, saying what to do, when the directory is in use,
 * cannot be written, or holds something that is no database of ours (or of a newer Signalbox).
 */
export async function openSqlite(options: SqliteOptions): Promise<SqliteStore> {
  const clock = options.clock ?? systemClock;
  const observe = options.observe ?? (() => undefined);
  if (!options.directory) throw new HubError('invalid-argument', 'the data directory has no name');
  const thread = await StoreThread.open({
    directory: options.directory,
    busyTimeoutMs: options.busyTimeoutMs ?? 5000,
    maxBytes: options.maxDatabaseBytes ?? Number.POSITIVE_INFINITY,
    maxWaitingCalls: options.maxWaitingCalls ?? 50_000,
    maxWaitingBytes: options.maxWaitingBytes ?? 64 * 2 ** 20,
    observe,
    retention: {
      maxEvents: options.maxEvents ?? 10_000,
      maxBytes: options.maxEventBytes ?? 64 * 2 ** 20,
      maxAgeMs: options.maxEventAgeMs ?? 7 * 24 * 3600_000,
      maxTotalEvents: options.maxTotalEvents ?? 2_000_000,
    },
  });
  let epochs: number[];
  try {
    epochs = await thread.call('beginEpoch', [clock.now()]);
    await thread.call('setLeaseClock', [clock.now()]);
    await thread.call('orphanRuns', []);
  } catch (error) {
    await thread.close();
    throw error;
  }
  const tail = new EventTail(epochs.at(-1)!, { ...options.memory, clock });
  const log = new SqliteEventLog(thread, tail, epochs, () => clock.now());
  const leaseNow = steadyTime(clock);
  const stopPruning = pruneRegularly(thread, log, clock, leaseNow, options.pruneEveryMs ?? 5000, observe);
  let closing: Promise<void> | undefined;
  const close = async () => {
    stopPruning();
    await thread.close();
    await log.close();
  };
  return {
    commands: sqliteCommandStore(thread, log),
    log,
    archive: sqliteEventArchive(thread),
    leases: sqliteLeaseStore(thread, leaseNow),
    runs: sqliteRunStore(thread, log),
    close: () => (closing ??= close()),
    [Symbol.asyncDispose]: () => (closing ??= close()),
  };
}

/** The wall clock as it was at the start, and from there on one that is never set. */
function steadyTime(clock: Clock): () => number {
  const offset = clock.now() - clock.monotonic();
  return () => offset + clock.monotonic();
}

/** Drops events beyond the limits and ended leases, slice by slice, as long as the store is open. */
function pruneRegularly(
  thread: StoreThread,
  log: SqliteEventLog,
  clock: Clock,
  leaseNow: () => number,
  everyMs: number,
  observe: (fact: StoreFact) => void,
): () => void {
  let isStopped = false;
  let letGo: () => void = () => undefined;
  const again = () => {
    if (!isStopped) letGo = clock.after(everyMs, () => void prune());
  };
  const prune = async () => {
    try {
      while (!isStopped && (await thread.call('pruneEvents', [clock.now(), pruneSlice])) > 0) log.forgetPages();
      if (!isStopped) await thread.call('pruneLeases', [leaseNow()]);
    } catch (error) {
      if (!isStopped) observe({ kind: 'disk-trouble', error: toHubError(error) });
    }
    again();
  };
  again();
  return () => {
    isStopped = true;
    letGo();
  };
}
