import { toHubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import type { TaskFact } from './facts.ts';
import { isTerminalRun, type Run, runChannel, userChannel } from './run.ts';
import type { RunStore } from './run-store.ts';

export interface AnnouncerOptions {
  readonly store: RunStore;
  readonly log: EventLog;
  readonly observe: (fact: TaskFact) => void;
}

/** What every event of a run says of it. */
export const contextOf = ({ id, task, epoch }: Run): Record<string, string | number> => ({
  runId: id,
  task,
  attempt: epoch,
});

/** The data of `done`. */
export function doneData(run: Run): Record<string, unknown> {
  return {
    success: run.state === 'succeeded',
    state: run.state,
    ...(run.result !== undefined && { result: JSON.parse(run.result) }),
    ...(run.error && run.state !== 'succeeded' && { error: run.error.message, code: run.error.code }),
    context: contextOf(run),
  };
}

/**
 * Brings the end of each run into its channel, and to its owner's. Exactly once: the end is in the store first, the log
 * knows a repeated one by its producer, and the store is told once it is there.
 */
export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #underWay = new Map<string, Promise<void>>();
  #told: string[] = [];

  constructor(options: AnnouncerOptions) {
    this.#options = options;
  }

  /** Resolves once watchers can see the end, or it is left to the next sweep. */
  announce(run: Run): Promise<void> {
    if (!isTerminalRun(run.state)) return Promise.resolve();
    let telling = this.#underWay.get(run.id);
    if (!telling) {
      telling = this.#announce(run).finally(() => this.#underWay.delete(run.id));
      this.#underWay.set(run.id, telling);
    }
    return telling;
  }

  async #announce(run: Run): Promise<void> {
    try {
      await this.#append(run);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#told.push(run.id);
    if (this.#told.length === 1) queueMicrotask(() => void this.#tellStore());
  }

  /** Announces what was left behind: by a crash, or while the log took nothing. */
  async sweep(): Promise<void> {
    const runs = await this.#options.store.unannounced(1000);
    await Promise.all(runs.map((run) => this.announce(run)));
  }

  async #append(run: Run): Promise<void> {
    const { log } = this.#options;
    const atMs = run.endedAtMs ?? run.updatedAtMs;
    const told = [
      log.append(channelKey(run.tenant, runChannel(run.id)), {
        type: 'done',
        atMs,
        data: doneData(run),
        durable: true,
        producer: { id: 'end', seq: 1 },
        bytes: run.result?.length,
      }),
    ];
    if (run.owner !== undefined)
      told.push(
        log.append(channelKey(run.tenant, userChannel(run.owner)), {
          type: `task.${run.state}`,
          atMs,
          data: doneData(run),
          durable: true,
          producer: { id: `run.${run.id}`, seq: 1 },
          bytes: run.result?.length,
        }),
      );
    await Promise.all(told);
  }

  /** One call for all that were told in the meantime. Until it has come, they are only told again in vain. */
  async #tellStore(): Promise<void> {
    const ids = this.#told;
    this.#told = [];
    try {
      await this.#options.store.announced(ids);
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    const operation = 'announce the end of a run';
    this.#options.observe({ kind: 'tasks-failed', operation, error: toHubError(error) });
  }
}
