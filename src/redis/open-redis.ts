import type { ClientDirectory } from '../cluster/client-directory.ts';
import type { EventLog } from '../events/event-log.ts';
import type { CommandStore } from '../hub/command-store.ts';
import type { LeaseStore } from '../leases/lease-store.ts';
import type { RunStore, TaskEngine } from '../tasks/index.ts';
import { checkServer, type RedisDurability } from './checks.ts';
import { operations } from './command-script.ts';
import { RedisConnection } from './connection.ts';
import type { RedisConnectionOptions } from './connection-options.ts';
import { directoryLua } from './directory-script.ts';
import { EmptyWatch } from './empty-watch.ts';
import type { RedisEventLogOptions } from './event-log-options.ts';
import { RedisClientDirectory, type RedisClientDirectoryOptions } from './redis-client-directory.ts';
import { RedisCommandStore } from './redis-command-store.ts';
import { openRedisEventLog } from './redis-event-log.ts';
import { type RedisLeaseOptions, redisLeaseStore } from './redis-lease-store.ts';
import { redisRunStore } from './redis-run-store.ts';
import { redisTaskEngine } from './redis-task-engine.ts';
import { ScriptQueue } from './script-queue.ts';
import { RedisSubscriber } from './subscriber.ts';

export interface RedisOptions extends RedisConnectionOptions, RedisClientDirectoryOptions {
  /**
   * What a promise of the store means. `stored`: in the log of Redis. `replicated`: a replica has it, too (2 s at most,
   * then `unavailable`). `none`: in the memory of Redis. Default: `stored`.
   */
  readonly durability?: RedisDurability | undefined;
  /** What is kept of events, and for how long. */
  readonly events?: Omit<RedisEventLogOptions, 'connection' | 'subscriber' | 'writing' | 'replicas'> | undefined;
  readonly leases?: RedisLeaseOptions | undefined;
}

/** What several nodes share. */
export interface RedisStore {
  readonly commands: CommandStore;
  readonly directory: ClientDirectory;
  readonly log: EventLog;
  readonly leases: LeaseStore;
  /** Runs of tasks, for workers on all nodes, and what brings them there. */
  readonly runs: RunStore;
  readonly taskEngine: TaskEngine;
  /** Brings what nodes tell each other: hints to look, never more. */
  readonly subscriber: RedisSubscriber;
  /** For further adapters on the same Redis. */
  readonly connection: RedisConnection;
  /** Ends the connections; calls under way fail. May be called twice. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens the store that several nodes share. Throws `unavailable`, saying what to do, when Redis cannot be reached, is
 * older than 7.0, or would lose or throw away what it keeps; `invalid-argument` for options that cannot be.
 */
export async function openRedis(options: RedisOptions): Promise<RedisStore> {
  const { durability = 'stored' } = options;
  const connection = await RedisConnection.open(options);
  const closers = [() => connection.close()];
  let closing: Promise<void> | undefined;
  const close = async () => {
    for (const one of closers.reverse()) await one();
  };
  try {
    const observe = connection.settings.observe;
    for (const message of await checkServer(connection, durability)) observe({ kind: 'redis-advice', message });
    // Waiting for a replica holds up a connection: the others do not have to wait, too.
    const writing =
      durability === 'replicated' ? await RedisConnection.open({ ...options, observe: undefined }) : connection;
    if (writing !== connection) closers.push(() => writing.close());
    const script = operations(directoryLua);
    const queue = new ScriptQueue(connection, script);
    const writes = writing === connection ? queue : new ScriptQueue(writing, script, 1);
    const directory = new RedisClientDirectory(connection, queue, options);
    closers.push(() => directory.close());
    const watch = new EmptyWatch(connection, queue);
    await watch.start();
    closers.push(async () => watch.close());
    const subscriber = new RedisSubscriber(connection);
    closers.push(async () => subscriber.close());
    const replicas = durability === 'replicated' ? 1 : 0;
    const log = await openRedisEventLog({ ...options.events, connection, subscriber, writing, replicas });
    closers.push(() => log.close());
    return {
      commands: new RedisCommandStore(connection, writes),
      directory,
      log,
      leases: redisLeaseStore(connection, options.leases),
      runs: redisRunStore(writing, { replicas }),
      taskEngine: redisTaskEngine(connection, subscriber),
      subscriber,
      connection,
      close: () => (closing ??= close()),
      [Symbol.asyncDispose]: () => (closing ??= close()),
    };
  } catch (error) {
    await close();
    throw error;
  }
}
