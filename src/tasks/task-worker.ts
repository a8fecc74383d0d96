import { HubError, toHubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { ActiveRun } from './active-run.ts';
import type { Announcer } from './announcer.ts';
import { announcementsOf, contextOf } from './announcer.ts';
import { attempt } from './attempt.ts';
import type { Task } from './define-task.ts';
import type { TaskFact } from './facts.ts';
import type { HostPools } from './isolation/host-pools.ts';
import { newEvent } from './log-sink.ts';
import { isTerminalRun, type Run, runChannel } from './run.ts';
import type { AttemptEnd, FinalEnd, RunStore } from './run-store.ts';
import type { StreamEvent, StreamSink } from './stream-sink.ts';
import type { EngineWorker } from './task-engine.ts';

export interface TaskWorkerOptions {
  readonly store: RunStore;
  readonly log: EventLog;
  readonly announcer: Announcer;
  readonly tasks: ReadonlyMap<string, Task>;
  readonly hosts: HostPools;
  readonly name: string;
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly maxCrashes: number;
  readonly maxResultBytes: number;
  readonly transport: CommandTransport | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly observe: (fact: TaskFact) => void;
  /** There is room again, or a run is due. */
  readonly onRoom: (run?: Run) => void;
}

/** Room for one run that is being added, to begin it at once. To be released when the store has answered. */
export interface Place {
  readonly worker: string;
  /** Unix ms until which the run would be claimed. */
  readonly untilMs: number;
  /** Begins the run, which was claimed for this worker. */
  begin(run: Run): void;
  release(): void;
}

/** Claims runs, does them, keeps their claims while they last, and settles them. */
export class TaskWorker implements EngineWorker {
  readonly #options: TaskWorkerOptions;
  readonly #active = new Map<string, ActiveRun>();
  readonly #attempts = new Set<Promise<void>>();
  /** Calls of `run` that wait for room. */
  readonly #waiting: (() => void)[] = [];
  #claiming = 0;
  #isClosing = false;
  #isStopping = false;
  /** Whether the store may have more that is due, as far as is known here. */
  #mayHaveMore = true;
  #renewing: Promise<void> | undefined;
  #renewedAtMs: number;
  #letGo: (() => void) | undefined;

  constructor(options: TaskWorkerOptions) {
    this.#options = options;
    this.#renewedAtMs = options.clock.monotonic();
  }

  /** Runs under way here. */
  get load(): number {
    return this.#active.size;
  }

  get concurrency(): number {
    return this.#options.concurrency;
  }

  knows(task: string): boolean {
    return this.#options.tasks.has(task);
  }

  get #room(): number {
    return this.#options.concurrency - this.#active.size - this.#claiming;
  }

  async poll(): Promise<number | undefined> {
    const { clock, observe } = this.#options;
    const room = this.#room;
    if (this.#isClosing) return undefined;
    if (room <= 0) {
      this.#mayHaveMore = true;
      return undefined;
    }
    try {
      return await this.#claim(room);
    } catch (error) {
      if (this.#isClosing) return undefined;
      observe({ kind: 'tasks-failed', operation: 'claim runs', error: toHubError(error) });
      return clock.now() + 1000;
    }
  }

  async run(runId: string): Promise<void> {
    while (!this.#isClosing && this.#room <= 0)
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    if (this.#isClosing) return;
    await this.#claim(1, runId);
    await this.#attemptOf.get(runId);
  }

  /** Room for a run that is about to be added; undefined when there is none, or what waits in the store comes first. */
  place(): Place | undefined {
    const { clock, leaseMs, name } = this.#options;
    if (this.#isClosing || this.#room <= 0) return undefined;
    this.#claiming++;
    // Closing waits for it, as a run that is claimed here has to be given back.
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#attempts.add(promise);
    const safeUntilMs = clock.monotonic() + leaseMs;
    return {
      worker: name,
      untilMs: clock.now() + leaseMs,
      begin: (run) => this.#begin(run, safeUntilMs),
      release: () => {
        this.#claiming--;
        this.#attempts.delete(promise);
        this.#wakeNext();
        resolve();
      },
    };
  }

  /** Tells a run of this process to stop; false when it is not here. */
  stop(runId: string, reason: string): boolean {
    const active = this.#active.get(runId);
    active?.stop({ kind: 'cancelled', reason });
    return active !== undefined;
  }

  isRunning(runId: string): boolean {
    return this.#active.has(runId);
  }

  /** Where the streams of this worker's runs lead: to the log, as long as their claim stands. */
  readonly sink: StreamSink = {
    append: (event) => {
      const active = this.#standing(event);
      if (active.isSafe) return this.#noted(active, () => this.#append(event));
      // This process stood still for so long that another one may have the run: ask before anything is told.
      return this.#renew().then(() => {
        this.#standing(event);
        return this.#noted(active, () => this.#append(event));
      });
    },
  };

  /** Takes no more runs; lets those under way end, for at most `timeoutMs`, then stops them and gives them back. */
  async close(timeoutMs: number): Promise<void> {
    this.#isClosing = true;
    for (const wake of this.#waiting.splice(0)) wake();
    let letGo: () => void = () => undefined;
    const overdue = new Promise<void>((resolve) => {
      letGo = this.#options.clock.after(timeoutMs, resolve);
    });
    if (timeoutMs > 0) await Promise.race([this.#allEnded(), overdue]);
    letGo();
    this.#isStopping = true;
    for (const active of this.#active.values()) active.stop({ kind: 'closing' });
    await this.#allEnded();
    this.#letGo?.();
  }

  readonly #attemptOf = new Map<string, Promise<void>>();

  async #allEnded(): Promise<void> {
    while (this.#attempts.size > 0) await Promise.all(this.#attempts);
  }

  async #claim(limit: number, id?: string): Promise<number | undefined> {
    const { store, tasks, leaseMs, maxCrashes, name, clock, announcer } = this.#options;
    // Own runs whose time ran out while this process stood still are not to be taken for lost ones.
    if (this.#active.size > 0 && clock.monotonic() - this.#renewedAtMs >= leaseMs / 2) await this.#renew();
    const askedAtMs = clock.monotonic();
    const nowMs = clock.now();
    this.#claiming += limit;
    try {
      const { runs, ended, nextDueMs } = await store.claim({
        worker: name,
        tasks: [...tasks.keys()],
        id,
        limit,
        nowMs,
        untilMs: nowMs + leaseMs,
        maxCrashes,
      });
      if (id === undefined) this.#mayHaveMore = runs.length >= limit;
      for (const run of ended) void this.#announceEnd(run, announcer);
      for (const run of runs) this.#begin(run, askedAtMs + leaseMs);
      return nextDueMs;
    } finally {
      this.#claiming -= limit;
      this.#wakeNext();
    }
  }

  #wakeNext(): void {
    if (this.#room > 0) this.#waiting.shift()?.();
  }

  #begin(run: Run, safeUntilMs: number): void {
    const { clock, observe } = this.#options;
    const before = this.#active.get(run.id);
    // A store that took longer to answer than a claim lasts may have given the run away again, to this very worker.
    if (before && before.claim.epoch > run.epoch) return;
    before?.stop({ kind: 'lost' });
    const active = new ActiveRun(run, clock, safeUntilMs);
    this.#active.set(run.id, active);
    const waitedMs = Math.max(0, clock.now() - run.dueAtMs);
    const { tenant, id: runId, task, epoch } = run;
    observe({ kind: 'run-started', tenant, runId, task, attempt: epoch, waitedMs });
    if (run.cancelReason !== undefined) active.stop({ kind: 'cancelled', reason: run.cancelReason });
    if (this.#isStopping) active.stop({ kind: 'closing' });
    this.#keepRenewing();
    const ended = this.#perform(active).finally(() => {
      this.#attempts.delete(ended);
      if (this.#attemptOf.get(run.id) === ended) this.#attemptOf.delete(run.id);
      if (this.#active.get(run.id) === active) this.#active.delete(run.id);
      this.#wakeNext();
      // One more of its key may run now.
      if (this.#mayHaveMore || run.concurrency) this.#options.onRoom();
    });
    this.#attempts.add(ended);
    this.#attemptOf.set(run.id, ended);
  }

  async #perform(active: ActiveRun): Promise<void> {
    const { tasks, hosts, clock, random, maxResultBytes, transport, observe } = this.#options;
    const { run } = active;
    try {
      this.#tellStart(run);
      const task = tasks.get(run.task)!;
      const end = await attempt(task, active, { hosts, clock, random, maxResultBytes, transport, worker: this });
      if (active.stopped?.kind === 'lost') {
        observe({ kind: 'run-lost', tenant: run.tenant, runId: run.id, task: run.task });
        return;
      }
      await this.#settle(active, end);
    } catch (error) {
      // The claim runs out, and the run is taken up again.
      observe({ kind: 'tasks-failed', operation: 'do a run', error: toHubError(error) });
    }
  }

  #tellStart(run: Run): void {
    const { observe } = this.#options;
    const again = run.failures > 0 ? 'failed' : run.crashes > 0 ? 'worker-lost' : 'released';
    const data =
      run.epoch === 1
        ? { context: contextOf(run) }
        : { attempt: run.epoch, reason: again, error: run.error?.message, context: contextOf(run) };
    this.#tell(run, run.epoch === 1 ? 'task.started' : 'hub.attempt', data)?.catch((error: unknown) =>
      observe({ kind: 'tasks-failed', operation: 'tell of an attempt', error: toHubError(error) }),
    );
  }

  async #settle(active: ActiveRun, end: AttemptEnd): Promise<void> {
    const { store, log, clock, random, announcer, observe, onRoom } = this.#options;
    const { run, claim } = active;
    active.isSettling = true;
    if (end.kind === 'retry') {
      const details = { attempt: run.epoch, code: end.error.code, retryAt: new Date(end.dueAtMs).toISOString() };
      await this.#tell(run, 'error', { message: end.error.message, details, context: contextOf(run) });
    }
    const backoff = new Backoff({ minMs: 100, maxMs: 2000, random });
    for (;;) {
      try {
        // A store that can tells of the end in the same step; when that has failed, one after the other is more likely to.
        if (store.teller?.log === log && isFinal(end) && backoff.attempts === 0) {
          await this.#settleAndTell(active, end);
          return;
        }
        const settled = await store.settle(claim, end, clock.now());
        if (!settled) observe({ kind: 'run-lost', tenant: run.tenant, runId: run.id, task: run.task });
        else if (isTerminalRun(settled.state)) await this.#announceEnd(settled, announcer);
        else {
          if (end.kind === 'retry')
            observe({
              kind: 'run-retried',
              tenant: run.tenant,
              runId: run.id,
              task: run.task,
              attempt: run.epoch,
              message: end.error.message,
            });
          onRoom(settled);
        }
        return;
      } catch (error) {
        observe({ kind: 'tasks-failed', operation: 'settle a run', error: toHubError(error) });
        // While the claim stands the end can still be told; closing does not wait for a store that is gone.
        if (this.#isClosing || active.stopped?.kind === 'lost' || backoff.attempts >= 20) return;
        await new Promise<void>((resolve) => clock.after(backoff.next(), resolve));
      }
    }
  }

  async #settleAndTell({ run, claim }: ActiveRun, end: FinalEnd): Promise<void> {
    const { store, clock, observe } = this.#options;
    const nowMs = clock.now();
    const ended: Run = {
      ...run,
      state: end.kind,
      endedAtMs: nowMs,
      result: end.kind === 'succeeded' ? end.result : undefined,
      error: end.kind === 'succeeded' ? undefined : end.error,
    };
    if (await store.teller!.settle(claim, end, nowMs, announcementsOf(ended))) this.#observeEnd(ended);
    else observe({ kind: 'run-lost', tenant: run.tenant, runId: run.id, task: run.task });
  }

  async #announceEnd(run: Run, announcer: Announcer): Promise<void> {
    await announcer.announce(run);
    this.#observeEnd(run);
  }

  #observeEnd(run: Run): void {
    const { observe, clock } = this.#options;
    if (!isTerminalRun(run.state)) return;
    const { tenant, id: runId, task, state } = run;
    const afterMs = Math.max(0, (run.endedAtMs ?? clock.now()) - run.createdAtMs);
    observe({ kind: 'run-ended', tenant, runId, task, state, code: run.error?.code, afterMs });
  }

  async checkpoint(active: ActiveRun, data: string): Promise<void> {
    const { store, clock } = this.#options;
    if (await this.#noted(active, () => store.checkpoint(active.claim, data, clock.now()))) return;
    active.stop({ kind: 'lost' });
    throw lost(active.run.id);
  }

  #standing({ fence }: StreamEvent): ActiveRun {
    const active = fence && this.#active.get(fence.runId);
    if (!active || active.claim.epoch !== fence.epoch || active.isSettling || active.stopped?.kind === 'lost')
      throw lost(fence?.runId ?? 'unknown');
    return active;
  }

  /** Notes what could not be kept because log or store are away. */
  #noted<T extends Promise<unknown> | undefined>(active: ActiveRun, keep: () => T): T {
    const note = (error: unknown): void => {
      if (toHubError(error).code === 'unavailable') active.isUnkept = true;
    };
    try {
      const kept = keep();
      kept?.catch(note);
      return kept;
    } catch (error) {
      note(error);
      throw error;
    }
  }

  #append(event: StreamEvent): Promise<void> | undefined {
    return this.#options.log.append(channelKey(event.tenant, event.channel), newEvent(event));
  }

  #tell(run: Run, type: string, data: Record<string, unknown>): Promise<void> | undefined {
    const { log, clock } = this.#options;
    // Of the beginning the store knows; a write to the disk for it would be one in four.
    const event = { type, atMs: clock.now(), data, durable: type !== 'task.started' };
    return log.append(channelKey(run.tenant, runChannel(run.id)), event);
  }

  #keepRenewing(): void {
    const { clock, leaseMs } = this.#options;
    this.#letGo ??= clock.after(leaseMs / 3, () => {
      this.#letGo = undefined;
      if (this.#active.size === 0) return;
      void this.#renew().finally(() => {
        if (this.#active.size > 0) this.#keepRenewing();
      });
    });
  }

  #renew(): Promise<void> {
    this.#renewing ??= this.#renewAll().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renewAll(): Promise<void> {
    const { store, clock, leaseMs, observe } = this.#options;
    const all = [...this.#active.values()];
    const askedAtMs = clock.monotonic();
    const nowMs = clock.now();
    try {
      const outcomes = await store.renew(
        all.map(({ claim }) => claim),
        { nowMs, untilMs: nowMs + leaseMs },
      );
      this.#renewedAtMs = askedAtMs;
      for (const [i, active] of all.entries()) {
        const outcome = outcomes[i]!;
        // One that has just settled is not lost.
        if (outcome === 'lost') {
          if (this.#active.get(active.run.id) === active && !active.isSettling) active.stop({ kind: 'lost' });
          continue;
        }
        active.renewed(askedAtMs + leaseMs);
        if (outcome !== 'kept') active.stop({ kind: 'cancelled', reason: outcome.cancelReason });
      }
    } catch (error) {
      observe({ kind: 'tasks-failed', operation: 'renew claims', error: toHubError(error) });
    }
  }
}

const isFinal = (end: AttemptEnd): end is FinalEnd => end.kind !== 'retry' && end.kind !== 'released';
const lost = (runId: string): HubError =>
  new HubError('task-cancelled', `run ${runId} is not this worker's any more: nothing more is taken from it`);
