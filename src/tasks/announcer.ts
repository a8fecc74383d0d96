import { toHubError } from '../errors.ts';
import { channelKey } from '../events/channels.ts';
import type { EventLog } from '../events/event-log.ts';
import { JsonText } from '../events/json-text.ts';
import type { Clock } from '../flow/clock.ts';
import type { TaskFact } from './facts.ts';
import { isTerminalRun, type Run, runChannel, userChannel } from './run.ts';
import type { Announcement, RunStore } from './run-store.ts';

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

/** The data of `done`, as JSON: the result is JSON already. */
export function doneJson(run: Run): string {
  const result = run.result === undefined ? '' : `,"result":${run.result}`;
  const error =
    run.error && run.state !== 'succeeded'
      ? `,"error":${JSON.stringify(run.error.message)},"code":${JSON.stringify(run.error.code)}`
      : '';
  const context = JSON.stringify(contextOf(run));
  return `{"success":${run.state === 'succeeded'},"state":"${run.state}"${result}${error},"context":${context}}`;
}

export const doneData = (run: Run): Record<string, unknown> => JSON.parse(doneJson(run));

/** What tells of the end of a run: in its channel first, then in its owner's. */
export function announcementsOf(run: Run): Announcement[] {
  const dataJson = doneJson(run);
  const atMs = run.endedAtMs ?? run.updatedAtMs;
  const announcements = [{ channel: channelKey(run.tenant, runChannel(run.id)), type: 'done', atMs, dataJson }];
  if (run.owner !== undefined) {
    const channel = channelKey(run.tenant, userChannel(run.owner));
    announcements.push({ channel, type: `task.${run.state}`, atMs, dataJson });
  }
  return announcements;
}

/**
 * Brings the end of each run into its channel, and to its owner's, where the store has not done both in one step. Exactly
 * once: the end is in the store first, the log knows a repeated one by its producer, and the store is told once it is there.
 */
export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #underWay = new Map<string, Promise<void>>();
  #told: string[] = [];
  #telling: Promise<void> = Promise.resolve();

  constructor(options: AnnouncerOptions) {
    this.#options = options;
  }

  /** Resolves once watchers can see the end, or it is left to the next sweep. */
  announce(run: Run): Promise<void> {
    if (!isTerminalRun(run.state) || run.isTold) return Promise.resolve();
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
    if (this.#told.length === 1) queueMicrotask(() => (this.#telling = this.#tellStore()));
  }

  /** Resolves once nothing is under way, or after `patienceMs`: what is left then is found by whoever starts next. */
  async idle(clock: Clock, patienceMs: number): Promise<void> {
    let letGo = (): void => undefined;
    const over = new Promise<void>((resolve) => {
      letGo = clock.after(patienceMs, resolve);
    });
    const told = Promise.all(this.#underWay.values()).then(() => this.#telling);
    await Promise.race([told, over]);
    letGo();
  }

  /** Announces what was left behind: by a crash, or while the log took nothing. */
  async sweep(): Promise<void> {
    const runs = await this.#options.store.unannounced(1000);
    await Promise.all(runs.map((run) => this.announce(run)));
  }

  async #append(run: Run): Promise<void> {
    const { log } = this.#options;
    const told = announcementsOf(run).map(({ channel, type, atMs, dataJson }, i) =>
      log.append(channel, {
        type,
        atMs,
        data: new JsonText(dataJson),
        durable: true,
        producer: { id: i === 0 ? 'end' : `run.${run.id}`, seq: 1 },
        bytes: dataJson.length,
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
