import { randomUUID } from 'node:crypto';
import { toHubError } from '../errors.ts';
import type { RedisConnection } from './connection.ts';
import { shards } from './keys.ts';
import type { ScriptQueue } from './script-queue.ts';

const lookEveryMs = 5000;

/**
 * Notices when what Redis kept is gone: it was restarted without its log, flushed, or replaced by another. Each shard
 * has a mark that is written once; one that is missing, or is another's, says so. A loss is never silent.
 */
export class EmptyWatch {
  readonly #connection: RedisConnection;
  readonly #queue: ScriptQueue;
  readonly #marks = new Map<number, string>();
  #letGoOfReady: () => void = () => undefined;
  #letGo: () => void = () => undefined;
  #looking: Promise<void> | undefined;
  /** What each server calls the time since its start. */
  #runs = '';
  #isClosed = false;

  constructor(connection: RedisConnection, queue: ScriptQueue) {
    this.#connection = connection;
    this.#queue = queue;
  }

  /** Looks for the first time, and from now on after each reconnect and every few seconds. */
  async start(): Promise<void> {
    this.#runs = runsIn(await this.#connection.info());
    await this.#look();
    this.#letGoOfReady = this.#connection.onReady(() => void this.#lookAgain());
    this.#schedule();
  }

  close(): void {
    this.#isClosed = true;
    this.#letGoOfReady();
    this.#letGo();
  }

  #schedule(): void {
    this.#letGo = this.#connection.settings.clock.after(
      lookEveryMs,
      () => void this.#lookAgain().then(() => this.#schedule()),
    );
  }

  #lookAgain(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((error: unknown) => {
        // While it is away that is told already.
        if (!this.#isClosed && this.#connection.isReady)
          this.#connection.settings.observe({ kind: 'redis-trouble', error: toHubError(error) });
      })
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  async #look(): Promise<void> {
    if (this.#isClosed) return;
    await this.#lookForRestart();
    const mark = randomUUID();
    const lost: number[] = [];
    await Promise.all(
      Array.from({ length: shards }, async (_, shard) => {
        const found = String(await this.#queue.call(shard, 'mark', [mark])) || mark;
        const known = this.#marks.get(shard);
        this.#marks.set(shard, found);
        if (known !== undefined && known !== found) lost.push(shard);
      }),
    );
    if (lost.length === 0 || this.#isClosed) return;
    const { settings } = this.#connection;
    const what = lost.length === shards ? 'everything it kept' : `${lost.length} of ${shards} shards of what it kept`;
    settings.observe({
      kind: 'redis-emptied',
      message: `Redis at ${settings.place} has lost ${what}: commands that were accepted and had not ended are gone`,
    });
  }

  /** Redis may answer before it writes: who sets it so is told when that may have cost something. */
  async #lookForRestart(): Promise<void> {
    const runs = runsIn(await this.#connection.info());
    if (runs === this.#runs) return;
    this.#runs = runs;
    const appendfsync = await this.#connection.config('appendfsync');
    if (appendfsync === undefined || appendfsync === 'always' || this.#isClosed) return;
    const { settings } = this.#connection;
    settings.observe({
      kind: 'redis-advice',
      message:
        `Redis at ${settings.place} was restarted, or another took its place: with appendfsync ${appendfsync} what it took in the ` +
        'last two seconds before may be lost. With appendfsync always it would not be.',
    });
  }
}

function runsIn(infos: readonly string[]): string {
  return infos
    .map((info) => /^run_id:(\S+)/m.exec(info)?.[1] ?? '')
    .sort()
    .join();
}
