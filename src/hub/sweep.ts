import { isTerminal } from '../protocol/command.ts';
import type { CommandLife } from './command-life.ts';
import type { CommandStore, StoredCommand } from './command-store.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';

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
  /** Watched commands whose time is over, and those whose time is not. */
  readonly #late = new Turns();
  readonly #others = new Turns();
  /** Watched commands that the store did not know, and since when, by the clock that never goes back. */
  readonly #missing = new WeakMap<PendingCommand, number>();

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

  /**
   * Where several hubs share a store, another one may end what somebody watches here while its client is away: first of
   * all what expires. True when there is surely more to find.
   */
  async #lookAtWatched(): Promise<boolean> {
    if (!this.#settings.claims) return false;
    const nowMs = this.#settings.clock.now();
    const lateOnes: PendingCommand[] = [];
    const otherOnes: PendingCommand[] = [];
    for (const pending of this.#life.registry.open())
      if (pending.isQueued && pending.isWatched && pending.place === 'shelf' && !pending.isEnding)
        (pending.acceptedAtMs + pending.command.ttlMs <= nowMs ? lateOnes : otherOnes).push(pending);
    const some = [...this.#late.next(lateOnes), ...this.#others.next(otherOnes)];
    const found = await Promise.all(some.map(({ id }) => this.#store.get(id)));
    const now = this.#settings.clock.monotonic();
    let ended = 0;
    for (const [at, pending] of some.entries()) {
      const stored = found[at];
      if (stored && isTerminal(stored.last.state)) {
        this.#life.endedElsewhere(stored);
        ended++;
      } else if (stored) this.#missing.delete(pending);
      else if (pending.place === 'shelf' && pending.isWatched) {
        // It may just have gone to another hub's hands, and its reader with it: twice is certain.
        const since = this.#missing.get(pending) ?? now;
        if (now - since >= everyMs / 2) this.#life.lostInStore(pending);
        else this.#missing.set(pending, since);
      }
    }
    return ended > 0 && lateOnes.length > atOnce;
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
      const isMoreToFind = await this.#lookAtWatched();
      // The same commands would come again while their end cannot be stored; only progress earns another look.
      isMore = isMoreToFind || (due.length === atOnce && ends.some((end) => end !== undefined));
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

/** Takes turns: so many at once, and the next ones the next time. */
class Turns {
  #from = 0;

  next<T>(all: readonly T[]): readonly T[] {
    if (this.#from >= all.length) this.#from = 0;
    const some = all.slice(this.#from, this.#from + atOnce);
    this.#from += some.length;
    return some;
  }
}
