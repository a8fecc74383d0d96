import type { EventLog } from '../events/event-log.ts';
import type { Run, RunError, RunState } from './run.ts';

/** A worker's right to a run: as long as no newer epoch was claimed. */
export interface Claim {
  readonly id: string;
  readonly epoch: number;
}

/** A run on its way into the store. */
export type NewRun = Pick<
  Run,
  | 'id'
  | 'tenant'
  | 'task'
  | 'input'
  | 'owner'
  | 'tags'
  | 'priority'
  | 'idempotencyKey'
  | 'concurrency'
  | 'dueAtMs'
  | 'deadlineMs'
>;

export type AddRunOutcome =
  | {
      readonly kind: 'stored';
      readonly run: Run;
      /** What `cancel-oldest` did: runs that ended at once, and running ones that were asked to end. */
      readonly cancelled: readonly Run[];
    }
  /** The id or the idempotency key is known, with the same input. */
  | { readonly kind: 'existing'; readonly run: Run }
  /** The id or the idempotency key is known, with another input. */
  | { readonly kind: 'conflict'; readonly message: string }
  /** `onFull: 'reject'`, or too many runs wait. */
  | { readonly kind: 'full'; readonly message: string };

export interface AddRunOptions {
  readonly nowMs: number;
  /** Runs that may wait; beyond it the run is refused. */
  readonly maxQueued: number;
  /**
   * Who would do it at once. Where the run is due, there is room under its key, and none waits that came before it, the
   * store may claim it in the same step: it is then `running`, with epoch 1. Stores may also leave it queued.
   */
  readonly claim?: { readonly worker: string; readonly untilMs: number } | undefined;
}

export interface ClaimRequest {
  /** Who claims: one process, from its start to its end. */
  readonly worker: string;
  /** Only runs of these tasks. */
  readonly tasks: readonly string[];
  /** Only this run: for engines that bring their own order. */
  readonly id?: string | undefined;
  readonly limit: number;
  readonly nowMs: number;
  /** Unless renewed, the claim is up for others after this. */
  readonly untilMs: number;
  /** A run whose workers were lost more often than this in a row, without a checkpoint, fails. */
  readonly maxCrashes: number;
}

export interface Claimed {
  readonly runs: readonly Run[];
  /** Runs that ended here, because their time or their luck was over: to be announced. */
  readonly ended: readonly Run[];
  /** Unix ms at which there may be something to claim that is not now; undefined: nothing that is known. */
  readonly nextDueMs: number | undefined;
}

export type RenewOutcome = 'kept' | 'lost' | { readonly cancelReason: string };

/** How an attempt ended. */
export type AttemptEnd =
  | { readonly kind: 'succeeded'; readonly result: string }
  | { readonly kind: 'failed'; readonly error: RunError }
  | { readonly kind: 'cancelled'; readonly error: RunError }
  /** It failed, and the run is due again. */
  | { readonly kind: 'retry'; readonly error: RunError; readonly dueAtMs: number }
  /** The worker gives it back, and nobody is to blame: it is due again at `dueAtMs`. Default: at once. */
  | { readonly kind: 'released'; readonly dueAtMs?: number | undefined };

/** An end after which no attempt comes. */
export type FinalEnd = Extract<AttemptEnd, { kind: 'succeeded' | 'failed' | 'cancelled' }>;

/** An event that is to be kept together with the end that it tells of. */
export interface Announcement {
  readonly channel: string;
  readonly type: string;
  readonly atMs: number;
  /** Its data as one line of JSON. */
  readonly dataJson: string;
}

/** Ends attempts and tells of it in one step. */
export interface EndTeller {
  /** The log that takes the announcements. */
  readonly log: EventLog;
  /**
   * As `settle`, with the announcements in their channels, or neither. Resolves to false when the claim does not stand
   * any more; the channels then have a hole.
   */
  settle(claim: Claim, end: FinalEnd, nowMs: number, announcements: readonly Announcement[]): Promise<boolean>;
}

export interface RunFilter {
  readonly tenant: string;
  readonly task?: string | undefined;
  readonly owner?: string | undefined;
  readonly state?: RunState | undefined;
  readonly tag?: string | undefined;
  readonly limit: number;
}

/**
 * Where runs are kept. Every call is atomic, and what resolved is kept as long as the store keeps anything. Times are
 * given by the caller, by the clock of its own process.
 */
export interface RunStore {
  add(run: NewRun, options: AddRunOptions): Promise<AddRunOutcome>;
  /**
   * Takes runs that are due, or whose claim ran out, with a new epoch each: by priority, then in their order, and
   * never more of one concurrency key than its limit.
   */
  claim(request: ClaimRequest): Promise<Claimed>;
  /** Keeps claims, and tells of each whether it still stands and whether it is asked to end. */
  renew(
    claims: readonly Claim[],
    options: { readonly nowMs: number; readonly untilMs: number },
  ): Promise<RenewOutcome[]>;
  /** Keeps where a run stands; what it has survived so far is not counted any more. False when the claim does not stand. */
  checkpoint(claim: Claim, data: string, nowMs: number): Promise<boolean>;
  /** Ends an attempt. Undefined when the claim does not stand any more: nothing has changed. */
  settle(claim: Claim, end: AttemptEnd, nowMs: number): Promise<Run | undefined>;
  /** There in stores that share what they write to with an event log. */
  readonly teller?: EndTeller | undefined;
  /** Ends a queued run, asks a running one to end; an ended one stays as it is. Undefined: there is none. */
  cancel(tenant: string, id: string, reason: string, nowMs: number): Promise<Run | undefined>;
  /** Ended runs whose end is not in their channel yet, as far as is known. */
  unannounced(limit: number): Promise<Run[]>;
  announced(ids: readonly string[]): Promise<void>;
  get(tenant: string, id: string): Promise<Run | undefined>;
  /** Newest first. */
  list(filter: RunFilter): Promise<Run[]>;
  /** Forgets announced runs that ended before, and the oldest ones beyond `maxEnded`. Returns how many. */
  prune(options: { readonly endedBeforeMs: number; readonly maxEnded: number }): Promise<number>;
  close(): Promise<void>;
}
