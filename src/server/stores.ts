import type { ClientDirectory } from '../cluster/index.ts';
import type { EventArchive } from '../events/event-archive.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandStore } from '../hub/index.ts';
import type { LeaseStore } from '../leases/index.ts';
import type { RunStore, TaskEngine } from '../tasks/index.ts';

/** What keeps the state of a process. Without `leases` they live in its memory, as the streams they stand for do. */
export interface Stores {
  readonly log: EventLog;
  readonly commands: CommandStore;
  /** Finds durable events across channels. */
  readonly archive?: EventArchive;
  readonly runs: RunStore;
  /** What brings runs to the workers of all nodes. Without one they are found in the store. */
  readonly taskEngine?: TaskEngine;
  readonly leases?: LeaseStore;
  /** What makes this process one node of several. */
  readonly shared?: {
    readonly directory: ClientDirectory;
    /** One wall clock for all of them. */
    readonly clock: Clock;
    readonly secret: () => Promise<Buffer>;
  };
}
