import { HubError, type HubErrorCode, toHubError } from '../../errors.ts';
import type { Command, CommandUpdate } from '../../protocol/command.ts';
import type { CommandTransport } from '../../protocol/command-transport.ts';

// The road from a thread or process to devices: over the worker that gave it its job. Each update is asked for, so that
// whoever reads slowly leaves them where they are bounded already.

/** What a thread or process asks; `n` names the command there. */
export type RoadAsk =
  | { readonly kind: 'send'; readonly n: number; readonly command: Command }
  | { readonly kind: 'next'; readonly n: number }
  /** The caller's signal was aborted. */
  | { readonly kind: 'cancel'; readonly n: number }
  | { readonly kind: 'leave'; readonly n: number };

/** The answer to `next`: an update, an error, or neither at the end. */
export interface RoadAnswer {
  readonly kind: 'update';
  readonly n: number;
  readonly update?: CommandUpdate | undefined;
  readonly error?: Pick<HubError, 'code' | 'message' | 'retryAfterMs' | 'commandId'> | undefined;
}

/** The worker's half, for one job. */
export class RoadEnd {
  readonly #transport: CommandTransport;
  readonly #answer: (answer: RoadAnswer) => void;
  readonly #sent = new Map<number, { updates: AsyncIterator<CommandUpdate>; cancel: AbortController }>();

  constructor(transport: CommandTransport, answer: (answer: RoadAnswer) => void) {
    this.#transport = transport;
    this.#answer = answer;
  }

  hear(ask: RoadAsk): void {
    switch (ask.kind) {
      case 'send': {
        const cancel = new AbortController();
        const updates = this.#transport.send(ask.command, { signal: cancel.signal })[Symbol.asyncIterator]();
        this.#sent.set(ask.n, { updates, cancel });
        return;
      }
      case 'next':
        void this.#next(ask.n);
        return;
      case 'cancel':
        this.#sent.get(ask.n)?.cancel.abort();
        return;
      case 'leave':
        this.#leave(ask.n);
        return;
      default:
        ask satisfies never;
    }
  }

  /** The job is over: nobody reads any more. Commands go on. */
  close(): void {
    for (const n of this.#sent.keys()) this.#leave(n);
  }

  async #next(n: number): Promise<void> {
    try {
      const { value, done } = (await this.#sent.get(n)?.updates.next()) ?? { done: true };
      if (done) this.#sent.delete(n);
      this.#answer({ kind: 'update', n, update: done ? undefined : value });
    } catch (thrown) {
      this.#sent.delete(n);
      const { code, message, retryAfterMs, commandId } = toHubError(thrown);
      this.#answer({ kind: 'update', n, error: { code, message, retryAfterMs, commandId } });
    }
  }

  #leave(n: number): void {
    const sent = this.#sent.get(n);
    this.#sent.delete(n);
    sent?.updates.return?.()?.catch(() => undefined); // whatever it says, nobody reads it
  }
}

/** The half of the thread or process: a `CommandTransport` like any other. */
export class WorkerRoad implements CommandTransport {
  readonly #ask: (ask: RoadAsk) => void;
  readonly #reading = new Map<number, PromiseWithResolvers<IteratorResult<CommandUpdate, undefined>>>();
  #last = 0;

  constructor(ask: (ask: RoadAsk) => void) {
    this.#ask = ask;
  }

  send(command: Command, { signal }: { signal?: AbortSignal | undefined } = {}): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => this.#open(command, signal) };
  }

  hear({ n, update, error }: RoadAnswer): void {
    const reading = this.#reading.get(n);
    this.#reading.delete(n);
    if (error) {
      const { code, message, retryAfterMs, commandId } = error;
      reading?.reject(
        new HubError(code as HubErrorCode, message, {
          ...(retryAfterMs !== undefined && { retryAfterMs }),
          ...(commandId !== undefined && { commandId }),
        }),
      );
    } else reading?.resolve(update ? { done: false, value: update } : over);
  }

  #open(command: Command, signal: AbortSignal | undefined): AsyncIterator<CommandUpdate, undefined> {
    const n = ++this.#last;
    let isOver = false;
    const cancel = (): void => this.#ask({ kind: 'cancel', n });
    const end = (): void => {
      isOver = true;
      signal?.removeEventListener('abort', cancel);
    };
    this.#ask({ kind: 'send', n, command });
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    return {
      next: async () => {
        if (isOver) return over;
        const reading = Promise.withResolvers<IteratorResult<CommandUpdate, undefined>>();
        this.#reading.set(n, reading);
        this.#ask({ kind: 'next', n });
        try {
          const result = await reading.promise;
          if (result.done) end();
          return result;
        } catch (error) {
          end();
          throw error;
        }
      },
      return: () => {
        if (!isOver) {
          end();
          this.#ask({ kind: 'leave', n });
          this.#reading.get(n)?.resolve(over);
          this.#reading.delete(n);
        }
        return Promise.resolve(over);
      },
    };
  }
}

const over: IteratorReturnResult<undefined> = { done: true, value: undefined };
