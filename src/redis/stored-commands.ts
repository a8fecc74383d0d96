import type { CommandHistory, LogEvent, Position } from '../events/event-log.ts';
import type { Clock } from '../flow/clock.ts';
import { type CommandState, isTerminal } from '../protocol/command.ts';
import type { Look } from './event-pages.ts';
import type { Step } from './event-shard.ts';
import { beginningOf, stepOf } from './untold-commands.ts';

/** What is needed of the log around. */
export interface StoredCommandsHost {
  readonly clock: Clock;
  /** By then every node has heard that a channel is wanted, also without wake-ups, in ms. */
  readonly heardWithinMs: number;
  watch(channel: string, wake: () => void): () => void;
  look(channel: string, after: Position, count: number): Promise<Look>;
  push(steps: readonly Step[]): void;
  failed(error: unknown): void;
}

/** A watched command is looked for in the store at most this often, in ms. */
const maxPauseMs = 30_000;

const start: Position = { epoch: 0, seq: 0 };

/**
 * Tells of commands what the store knows, where the node that knew more is gone: a channel that nobody begins, and an end
 * that nobody tells.
 */
export class StoredCommands {
  readonly #host: StoredCommandsHost;
  /** What the store knows of a command. */
  find: (channel: string) => Promise<CommandHistory | undefined> = async () => undefined;

  constructor(host: StoredCommandsHost) {
    this.#host = host;
  }

  /** Waits until the node that has a command has told of it; where none does, what is stored is told. */
  async begun(channel: string): Promise<void> {
    const { clock, heardWithinMs, watch, push } = this.#host;
    const told = Promise.withResolvers<void>();
    const release = watch(channel, () => told.resolve());
    const letGo = clock.after(heardWithinMs, () => told.resolve());
    try {
      if (!(await this.#isEmpty(channel))) return;
      await told.promise;
      if (!(await this.#isEmpty(channel))) return;
      const stored = await this.find(channel);
      if (stored) push(beginningOf(channel, stored));
    } finally {
      letGo();
      release();
    }
  }

  /** While a channel is watched: tells an end that is stored and that nobody has told. `newest` was read there. Returns the release. */
  follow(channel: string, newest: () => LogEvent | undefined): () => void {
    const { clock, heardWithinMs, failed } = this.#host;
    let isOver = false;
    let letGo: () => void;
    const again = (ms: number): void => {
      letGo = clock.after(ms, () => {
        this.#tellEnd(channel, newest)
          .catch(failed)
          .then((isDone) => {
            if (!isOver && isDone !== true) again(Math.min(maxPauseMs, 2 * ms));
          });
      });
    };
    again(heardWithinMs);
    return () => {
      isOver = true;
      letGo();
    };
  }

  /** True when there is nothing more to come. */
  async #tellEnd(channel: string, newest: () => LogEvent | undefined): Promise<boolean> {
    const before = newest();
    if (!before) return false;
    if (isEnd(before)) return true;
    const stored = await this.find(channel);
    const end = stored?.events.at(-1);
    // A live command is stored nowhere.
    if (!stored || !end) return true;
    // Whoever stored it is about to tell it.
    const { clock, heardWithinMs } = this.#host;
    if (!isEnd(end) || clock.now() - end.atMs < heardWithinMs) return false;
    const producer = { id: stored.isWhole ? '' : 'hole', seq: before.seq };
    this.#host.push([{ ...stepOf('opening', channel, end), kind: 'closing', producer }]);
    return false;
  }

  async #isEmpty(channel: string): Promise<boolean> {
    const { base, last } = await this.#host.look(channel, start, 0);
    return last === base;
  }
}

function isEnd({ type }: { readonly type: string }): boolean {
  return type.startsWith('command.') && isTerminal(type.slice('command.'.length) as CommandState);
}
