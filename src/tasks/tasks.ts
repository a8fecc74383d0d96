import { HubError, toHubError } from '../errors.ts';
import { defaultTenant } from '../events/channels.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { timeOrderedId, uniqueId } from '../flow/unique-id.ts';
import { Announcer } from './announcer.ts';
import { shown } from './check-keys.ts';
import type { Task, TaskInput, TaskOutput } from './define-task.ts';
import type { TaskFact } from './facts.ts';
import { HostPools } from './isolation/host-pools.ts';
import { jsonOf } from './json-of.ts';
import { memoryRunStore } from './memory-run-store.ts';
import { isTerminalRun, type Run } from './run.ts';
import type { AddRunOutcome, RunFilter, RunStore } from './run-store.ts';
import { parseWith } from './standard-schema.ts';
import { pollingEngine, type TaskEngine } from './task-engine.ts';
import { TaskHandle } from './task-handle.ts';
import { type Place, TaskWorker } from './task-worker.ts';
import { checkTasksOptions, type TasksOptions } from './tasks-options.ts';
import { checkTrigger, concurrencyOf, type TriggerOptions } from './trigger-options.ts';

/** How often ends that could not be announced are tried again, and old runs forgotten, in ms. */
const sweepMs = 5000;
/** How long a close waits for ends that are being announced, in ms. */
const announceMs = 2000;

/**
 * Background work that outlives whoever asked for it: triggers runs, does them, and knows what became of them.
 * `start` begins to work: runs that a crash or restart interrupted are taken up again.
 */
export class Tasks {
  readonly #options: TasksOptions;
  readonly #byId: ReadonlyMap<string, Task>;
  readonly #store: RunStore;
  readonly #engine: TaskEngine;
  readonly #clock: Clock;
  readonly #observe: (fact: TaskFact) => void;
  readonly #announcer: Announcer;
  readonly #hosts: HostPools;
  readonly #worker: TaskWorker;
  #stopSweeping: () => void = () => undefined;
  #sweeping: Promise<void> | undefined;
  #isDraining = false;
  #isStarted = false;
  #closing: Promise<void> | undefined;

  /** Throws `invalid-argument` for two tasks of one id, what is no task, or a limit that is none. */
  constructor(options: TasksOptions) {
    const byId = checkTasksOptions(options);
    const { log, clock = systemClock, random = Math.random, observe = () => undefined } = options;
    this.#options = options;
    this.#byId = byId;
    this.#clock = clock;
    this.#observe = observe;
    this.#store = options.store ?? memoryRunStore();
    this.#engine = options.engine ?? pollingEngine({ clock });
    this.#announcer = new Announcer({ store: this.#store, log, observe });
    this.#hosts = new HostPools(options);
    this.#worker = new TaskWorker({
      store: this.#store,
      log,
      announcer: this.#announcer,
      tasks: byId,
      hosts: this.#hosts,
      name: options.node ?? uniqueId(),
      concurrency: options.concurrency ?? 50,
      leaseMs: options.leaseMs ?? 8000,
      maxCrashes: options.maxCrashes ?? 10,
      maxResultBytes: options.maxResultBytes ?? 2 ** 20,
      transport: options.transport,
      clock,
      random,
      observe,
      onRoom: (run) => this.#engine.hint(run),
    });
  }

  /** The tasks that are known here, by id. */
  get definitions(): ReadonlyMap<string, Task> {
    return this.#byId;
  }

  /** Runs under way in this process. */
  get load(): number {
    return this.#worker.load;
  }

  /** Takes up what was interrupted, and begins to work. */
  async start(): Promise<void> {
    if (this.#isStarted) return;
    this.#isStarted = true;
    await this.#announcer.sweep();
    if (this.#options.work !== false) this.#engine.start(this.#worker);
    this.#sweepLater();
  }

  /**
   * Asks for a run. Resolves once it is kept; throws `invalid-argument` for a bad input, `not-found` for an unknown
   * task, `resource-exhausted` at a limit, `idempotency-conflict` for a key that was used with another input.
   */
  async trigger<T extends Task>(
    task: T | string,
    input: TaskInput<T>,
    options: TriggerOptions = {},
  ): Promise<TaskHandle<TaskOutput<T>>> {
    if (this.#isDraining) throw new HubError('unavailable', 'this process is closing', { retryAfterMs: 1000 });
    const definition = this.#definition(task);
    const {
      tenant = defaultTenant,
      id = timeOrderedId(this.#clock.now()),
      idempotencyKey,
      delayMs = 0,
      owner,
      tags = [],
      priority = 0,
    } = options;
    checkTrigger({ ...options, tenant, id });
    const text = jsonOf(input, `input of task ${definition.id}`, this.#options.maxInputBytes ?? 2 ** 20);
    const parsed = await parseWith(definition.input, JSON.parse(text), 'input');
    const nowMs = this.#clock.now();
    const { totalMs } = definition.timeout;
    const place = delayMs === 0 ? this.#place() : undefined;
    try {
      const outcome = await this.#store.add(
        {
          id,
          tenant,
          task: definition.id,
          input: text,
          owner,
          tags,
          priority,
          idempotencyKey,
          concurrency: concurrencyOf(definition, parsed),
          dueAtMs: nowMs + delayMs,
          deadlineMs: totalMs === undefined ? undefined : nowMs + delayMs + totalMs,
        },
        { nowMs, maxQueued: this.#options.maxQueued ?? 100_000, claim: place },
      );
      return await this.#added(outcome, place);
    } finally {
      place?.release();
    }
  }

  /** Room to begin a run where it was triggered. */
  #place(): Place | undefined {
    const mayBegin = this.#isStarted && this.#options.work !== false && this.#engine.mayBeginAtOnce;
    return mayBegin ? this.#worker.place() : undefined;
  }

  async #added(outcome: AddRunOutcome, place: Place | undefined): Promise<TaskHandle<never>> {
    switch (outcome.kind) {
      case 'existing':
        return this.#handle(outcome.run);
      case 'conflict':
        throw new HubError('idempotency-conflict', outcome.message);
      case 'full':
        throw new HubError('resource-exhausted', outcome.message, { retryAfterMs: 1000 });
      case 'stored':
        this.#observe({
          kind: 'run-triggered',
          tenant: outcome.run.tenant,
          runId: outcome.run.id,
          task: outcome.run.task,
        });
        for (const run of outcome.cancelled) this.#afterCancel(run);
        if (isTerminalRun(outcome.run.state)) await this.#announcer.announce(outcome.run);
        else if (outcome.run.state === 'running') place?.begin(outcome.run);
        else this.#engine.hint(outcome.run);
        return this.#handle(outcome.run);
      default:
        return outcome satisfies never;
    }
  }

  /** A known run. Throws `not-found`. */
  async get(runId: string, tenant: string = defaultTenant): Promise<TaskHandle> {
    return this.#handle(await this.snapshot(runId, tenant));
  }

  /** What is kept of a run. Throws `not-found`. */
  async snapshot(runId: string, tenant: string = defaultTenant): Promise<Run> {
    const run = await this.#store.get(tenant, runId);
    if (!run) throw noRun(runId);
    return run;
  }

  /** Newest first. */
  list(filter: Partial<RunFilter> = {}): Promise<Run[]> {
    return this.#store.list({ tenant: defaultTenant, limit: 100, ...filter });
  }

  /** Whether a run is being done now, here or elsewhere. Throws `not-found`. */
  async isRunning(runId: string, tenant: string = defaultTenant): Promise<boolean> {
    return (await this.snapshot(runId, tenant)).state === 'running';
  }

  /**
   * Asks for a run to end. A waiting one ends at once; a running one is told, wherever it runs, and its `done` says
   * `cancelled` once it has stopped (`succeeded`, if it returned all the same). Resolves to the run as it is now; an ended one
   * stays as it is. Throws `not-found`.
   */
  async cancel(runId: string, reason = 'cancelled by the caller', tenant: string = defaultTenant): Promise<Run> {
    const run = await this.#store.cancel(tenant, runId, reason.slice(0, 256), this.#clock.now());
    if (!run) throw noRun(runId);
    this.#afterCancel(run);
    return run;
  }

  /** Takes no more runs, and lets those under way end for at most `timeoutMs` (default 20,000); then they are given back. */
  async drain({ timeoutMs = 20_000 }: { timeoutMs?: number } = {}): Promise<void> {
    this.#isDraining = true;
    await this.#engine.stop();
    await this.#worker.close(timeoutMs);
  }

  /** Drains without waiting, and lets go of everything. What runs is told to stop, and goes on after the next start. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#stopSweeping();
    await this.drain({ timeoutMs: 0 });
    await this.#engine.close();
    this.#hosts.close();
    await this.#sweeping;
    // The log may be closed next.
    await this.#announcer.idle(this.#clock, announceMs);
    // The store belongs to whoever handed it in.
    if (!this.#options.store) await this.#store.close();
  }

  #definition(task: Task | string): Task {
    const id = typeof task === 'string' ? task : task?.id;
    const known = this.#byId.get(id);
    if (known) return known;
    if (typeof id !== 'string')
      throw new HubError('invalid-argument', `trigger: ${shown(task)} is no task and no id of one`);
    const ids = [...this.#byId.keys()];
    const more = ids.length > 20 ? `, and ${ids.length - 20} more` : '';
    const here = `${ids.slice(0, 20).join(', ') || 'none'}${more}`;
    throw new HubError('not-found', `there is no task "${id.slice(0, 64)}" here, only: ${here}`);
  }

  #handle(run: Run): TaskHandle<never> {
    const keeper = {
      snapshot: this.snapshot.bind(this),
      cancel: this.cancel.bind(this),
      announce: (ended: Run) => this.#announcer.announce(ended),
    };
    return new TaskHandle(run, keeper, this.#options.log);
  }

  #afterCancel(run: Run): void {
    if (isTerminalRun(run.state)) void this.#announcer.announce(run);
    else if (run.cancelReason !== undefined) this.#worker.stop(run.id, run.cancelReason);
  }

  #sweepLater(): void {
    this.#stopSweeping = this.#clock.after(sweepMs, () => {
      this.#sweeping = this.#sweep().finally(() => {
        if (!this.#closing) this.#sweepLater();
      });
    });
  }

  async #sweep(): Promise<void> {
    const { keepEndedMs = 7 * 24 * 3600_000, maxEnded = 100_000 } = this.#options;
    try {
      await this.#announcer.sweep();
      await this.#store.prune({ endedBeforeMs: this.#clock.now() - keepEndedMs, maxEnded });
    } catch (error) {
      if (!this.#closing) this.#observe({ kind: 'tasks-failed', operation: 'sweep', error: toHubError(error) });
    }
  }
}

const noRun = (id: unknown): HubError => new HubError('not-found', `there is no run ${shown(id)}`);
