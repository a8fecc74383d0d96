import { toHubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { ActiveRun } from './active-run.ts';
import type { Announcer } from './announcer.ts';
import { attempt } from './attempt.ts';
import { Claims } from './claims.ts';
import type { Task } from './define-task.ts';
import type { TaskFact } from './facts.ts';
import type { HostPools } from './isolation/host-pools.ts';
import type { Run } from './run.ts';
import type { RunStore } from './run-store.ts';
import { Settling } from './settling.ts';
import type { EngineWorker } from './task-engine.ts';
import { Telling } from './telling.ts';

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
  readonly #claims: Claims;
  readonly #settling: Settling;
  readonly #telling: Telling;
  readonly #attempts = new Set<Promise<void>>();
  readonly #attemptOf = new Map<string, Promise<void>>();
  /** Calls of `run` that wait for room. */
  readonly #waiting: (() => void)[] = [];
  #claiming = 0;
  #isClosing = false;
  #isStopping = false;
  /** Whether the store may have more that is due, as far as is known here. */
  #mayHaveMore = true;

  constructor(options: TaskWorkerOptions) {
    this.#options = options;
    this.#claims = new Claims(options);
    this.#telling = new Telling({ ...options, claims: this.#claims });
    this.#settling = new Settling({ ...options, isClosing: () => this.#isClosing, onDue: options.onRoom });
  }

  /** Runs under way here. */
  get load(): number {
    return this.#claims.size;
  }

  get concurrency(): number {
    return this.#options.concurrency;
  }

  knows(task: string): boolean {
    return this.#options.tasks.has(task);
  }

  get #room(): number {
    return this.#options.concurrency - this.#claims.size - this.#claiming;
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
    const active = this.#claims.get(runId);
    active?.stop({ kind: 'cancelled', reason });
    return active !== undefined;
  }

  isRunning(runId: string): boolean {
    return this.#claims.get(runId) !== undefined;
  }

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
    for (const active of this.#claims.all()) active.stop({ kind: 'closing' });
    await this.#allEnded();
    this.#claims.close();
  }

  async #allEnded(): Promise<void> {
    while (this.#attempts.size > 0) await Promise.all(this.#attempts);
  }

  async #claim(limit: number, id?: string): Promise<number | undefined> {
    const { store, tasks, leaseMs, maxCrashes, name, clock } = this.#options;
    await this.#claims.catchUp();
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
      for (const run of ended) void this.#settling.announce(run);
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
    const before = this.#claims.get(run.id);
    // A store that took longer to answer than a claim lasts may have given the run away again, to this very worker.
    if (before && before.claim.epoch > run.epoch) return;
    before?.stop({ kind: 'lost' });
    const active = new ActiveRun(run, clock, safeUntilMs);
    this.#claims.add(active);
    const waitedMs = Math.max(0, clock.now() - run.dueAtMs);
    const { tenant, id: runId, task, epoch } = run;
    observe({ kind: 'run-started', tenant, runId, task, attempt: epoch, waitedMs });
    if (run.cancelReason !== undefined) active.stop({ kind: 'cancelled', reason: run.cancelReason });
    if (this.#isStopping) active.stop({ kind: 'closing' });
    const ended = this.#perform(active).finally(() => {
      this.#attempts.delete(ended);
      if (this.#attemptOf.get(run.id) === ended) this.#attemptOf.delete(run.id);
      this.#claims.remove(active);
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
      this.#telling.start(run);
      const task = tasks.get(run.task)!;
      const end = await attempt(task, active, {
        hosts,
        clock,
        random,
        maxResultBytes,
        transport,
        telling: this.#telling,
      });
      if (active.stopped?.kind === 'lost') {
        observe({ kind: 'run-lost', tenant: run.tenant, runId: run.id, task: run.task });
        return;
      }
      // Nothing that the attempt still tells is taken any more.
      active.isSettling = true;
      if (end.kind === 'retry') await this.#telling.failure(run, end);
      await this.#settling.settle(active, end);
    } catch (error) {
      // The claim runs out, and the run is taken up again.
      observe({ kind: 'tasks-failed', operation: 'do a run', error: toHubError(error) });
    }
  }
}
