import { HubError } from '../errors.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import type { TerminalUpdate } from '../protocol/command.ts';
import type { WriteOptions } from './command-store.ts';
import type { Holds } from './holds.ts';
import type { Settings } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import type { Publisher } from './publisher.ts';

/** A store that refused an end is asked again after this many ms. */
const retryMs = 1000;

/** What keeping a queued command's steps needs of the hub around it. */
export interface StoredStepsHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly holds: Holds;
  readonly publisher: Publisher;
  failed(operation: string, cause: unknown): void;
}

/** What the log knows of an end. Another hub that has told it has also counted it. */
export type EndTold = 'not-yet' | 'with-the-end' | 'by-another';

/** What became of an end that was to be stored. */
export type StoredEnd =
  /** It stands, perhaps another one that came first. */
  | { readonly kind: 'stored'; readonly standing: TerminalUpdate; readonly told: EndTold }
  /** The store has lost the command, and will never take its end. */
  | { readonly kind: 'not-there' }
  /** The client is another hub's now: its device tells that one. */
  | { readonly kind: 'moved' }
  /** The hub was closed first; the device will tell it again. */
  | { readonly kind: 'closed' };

/** Keeps in the store how far queued commands are. */
export class StoredSteps {
  readonly #host: StoredStepsHost;
  /** Told to the store once what the stream brought is read: often the end is among it, and says more. */
  #toNote: PendingCommand[] = [];
  /** Wakes those that wait to ask the store again. */
  readonly #paused = new Set<() => void>();
  #isClosed = false;

  constructor(host: StoredStepsHost) {
    this.#host = host;
  }

  /** A queued command was delivered, or started. */
  note(pending: PendingCommand): void {
    if (this.#toNote.at(-1) === pending) return;
    this.#toNote.push(pending);
    if (this.#toNote.length === 1) queueMicrotask(() => this.#noteAll());
  }

  /** Asks the store until it takes the end, or it is no use. */
  async end(pending: PendingCommand, update: TerminalUpdate): Promise<StoredEnd> {
    const { claims } = this.#host.settings;
    const commands = this.#host.settings.commands!;
    for (let isFirst = true; !this.#isClosed; isFirst = false) {
      try {
        const signed = this.#signed(pending);
        // When both in one have failed, one after the other is more likely to do.
        const both = isFirst ? this.#host.publisher.storeEnd(commands, pending, update, signed) : undefined;
        const standing = await (both ?? commands.finish(update, signed));
        // Of several hubs that end it at once, the first tells the log. (The answer to an own write may have been lost.)
        const isOthers = claims !== undefined && (standing.state !== update.state || standing.atMs !== update.atMs);
        const isStored = both !== undefined && standing === update;
        return { kind: 'stored', standing, told: isOthers ? 'by-another' : isStored ? 'with-the-end' : 'not-yet' };
      } catch (cause) {
        if (this.#host.holds.isLost(cause, pending.command)) return { kind: 'moved' };
        this.#host.failed('store the end of a command', cause);
        if (cause instanceof HubError && cause.code === 'not-found') return { kind: 'not-there' };
        await this.#pause();
      }
    }
    return { kind: 'closed' };
  }

  /** Asks no more. */
  close(): void {
    this.#isClosed = true;
    for (const wake of [...this.#paused]) wake();
  }

  #noteAll(): void {
    const { settings, holds, failed } = this.#host;
    const steps = this.#toNote;
    this.#toNote = [];
    for (const pending of steps) {
      if (pending.isEnding || pending.hasEnded) continue;
      const state = pending.isStarted ? 'started' : 'delivered';
      const atMs = settings.clock.now();
      settings.commands?.advance(pending.id, state, atMs, this.#signed(pending)).catch((cause: unknown) => {
        if (!holds.isLost(cause, pending.command)) failed(`note that a command is ${state}`, cause);
      });
    }
  }

  #signed({ command }: PendingCommand): WriteOptions {
    return { owner: command, hold: this.#host.holds.of(command) };
  }

  /** Ends early when the hub is closed. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#host.wheel.clear(alarm);
        this.#paused.delete(wake);
        resolve();
      };
      const alarm = new Alarm(wake);
      this.#paused.add(wake);
      this.#host.wheel.set(alarm, retryMs);
    });
  }
}
