import { isTerminal } from '../protocol/command.ts';
import type { CommandLife } from './command-life.ts';
import type { CommandStore, StoredCommand } from './command-store.ts';
import type { Settings } from './options.ts';

const everyMs = 1000;
const pruneEveryMs = 60_000;
const atOnce = 256;

/** Ends stored commands whose time is over, also of clients that are away, and forgets old history. */
export class Sweep {
  readonly #store: CommandStore;
  readonly #life: CommandLife;
  readonly #settings: Settings;
  readonly #failed: (operation: string, cause: unknown) => void;
  #letGo: (() => void) | undefined;
  #prunedAt: number;
  #isClosed = false;
  /** Where the next look at watched commands begins. */
  #watchedFrom = 0;
  /** Watched commands that the store did not know at the last look. */
  #missing: ReadonlySet<string> = new Set();

  constructor(
    store: CommandStore,
    life: CommandLife,
    settings: Settings,
    failed: (operation: string, cause: unknown) => void,
  ) {
    this.#store = store;
    this.#life = life;
    this.#settings = settings;
    this.#failed = failed;
    this.#prunedAt = settings.clock.monotonic();
    this.#schedule(everyMs);
  }

  close(): void {
    this.#isClosed = true;
    this.#letGo?.();
  }

  #schedule(ms: number): void {
    if (!this.#isClosed) this.#letGo = this.#settings.clock.after(ms, () => void this.#run());
  }

  /** Where several hubs share a store, another one may end what somebody watches here while its client is away. */
  async #lookAtWatched(): Promise<void> {
    if (!this.#settings.claims) return;
    const watched = this.#life.registry
      .open()
      .filter((pending) => pending.isQueued && pending.isWatched && pending.place === 'shelf' && !pending.isEnding);
    if (this.#watchedFrom >= watched.length) this.#watchedFrom = 0;
    const some = watched.slice(this.#watchedFrom, this.#watchedFrom + atOnce);
    this.#watchedFrom += some.length;
    const found = await Promise.all(some.map(({ id }) => this.#store.get(id)));
    const missing = new Set<string>();
    for (const [at, pending] of some.entries()) {
      const stored = found[at];
      if (stored && isTerminal(stored.last.state)) this.#life.endedInStore(stored);
      else if (!stored && pending.place === 'shelf' && pending.isWatched) {
        // It may just have gone to another hub's hands, and its reader with it: twice is certain.
        if (this.#missing.has(pending.id)) this.#life.lostInStore(pending);
        else missing.add(pending.id);
      }
    }
    this.#missing = missing;
  }

  /** Those whose clients other nodes hold are theirs to end. */
  async #ours(due: readonly StoredCommand[]): Promise<readonly StoredCommand[]> {
    const { claims } = this.#settings;
    if (!claims || due.length === 0) return due;
    const isElsewhere = await claims.heldElsewhere(due.map(({ command }) => command));
    return due.filter((_, index) => !isElsewhere[index]);
  }

  async #run(): Promise<void> {
    let isMore = false;
    try {
      const { clock } = this.#settings;
      const due = await this.#store.due(clock.now(), atOnce);
      const ends = (await this.#ours(due)).map((stored) => this.#life.timeIsOver(this.#life.recall(stored)));
      await Promise.all(ends);
      await this.#lookAtWatched();
      // The same commands would come again while their end cannot be stored; only progress earns another look.
      isMore = due.length === atOnce && ends.some((end) => end !== undefined);
      if (clock.monotonic() - this.#prunedAt >= pruneEveryMs) {
        this.#prunedAt = clock.monotonic();
        const { historyMs, historyCommands } = this.#settings;
        await this.#store.prune({ endedBeforeMs: clock.now() - historyMs, maxEnded: historyCommands });
      }
    } catch (cause) {
      this.#failed('look for commands whose time is over', cause);
    }
    this.#schedule(isMore ? 1 : everyMs);
  }
}
