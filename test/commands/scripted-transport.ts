import type { Clock } from '../../src/flow/clock.ts';
import { PushStream } from '../../src/flow/push-stream.ts';
import type {
  Command,
  CommandError,
  CommandState,
  CommandUpdate,
  Payload,
  Progress,
} from '../../src/protocol/command.ts';
import type { CommandTransport } from '../../src/protocol/command-transport.ts';

/** One command that a test's transport has been given, and the other end of its updates. */
export class SentCommand {
  readonly command: Command;
  readonly signal: AbortSignal | undefined;
  readonly updates = new PushStream<CommandUpdate>();
  /** What its sender did, in order. */
  readonly log: ('cancel' | 'left')[] = [];

  constructor(command: Command, signal: AbortSignal | undefined) {
    this.command = command;
    this.signal = signal;
    signal?.addEventListener('abort', () => this.log.push('cancel'), { once: true });
    this.updates.onReturn = () => this.log.push('left');
  }

  tell(...states: ('queued' | 'sent' | 'delivered' | 'started')[]): this {
    for (const state of states) this.#push({ state });
    return this;
  }

  progress(progress: Progress): this {
    return this.#push({ state: 'progress', progress });
  }

  succeed(result: Payload = { type: 'test.Answer', value: new Uint8Array() }): this {
    this.#push({ state: 'succeeded', result });
    this.updates.end();
    return this;
  }

  end(state: 'failed' | 'rejected' | 'cancelled' | 'expired' | 'unknown', error: CommandError): this {
    this.#push({ state, error });
    this.updates.end();
    return this;
  }

  /** Under another id: as when an idempotency key is known already. */
  commandId: string | undefined;

  #push(step: { state: CommandState; progress?: Progress; result?: Payload; error?: CommandError }): this {
    const { id, clientId } = this.command;
    this.updates.push({ commandId: this.commandId ?? id, clientId, atMs: 0, ...step } as CommandUpdate);
    return this;
  }
}

/** A road whose other end is the test: `script` says what becomes of each command. */
export class ScriptedTransport implements CommandTransport {
  readonly sent: SentCommand[] = [];
  readonly #script: (sent: SentCommand) => void;

  constructor(script: (sent: SentCommand) => void = () => undefined) {
    this.#script = script;
  }

  get last(): SentCommand {
    return this.sent.at(-1)!;
  }

  send(command: Command, { signal }: { signal?: AbortSignal | undefined } = {}): AsyncIterable<CommandUpdate> {
    const sent = new SentCommand(command, signal);
    this.sent.push(sent);
    this.#script(sent);
    return sent.updates;
  }
}

/** Time that moves when the test says so. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #timers = new Set<{ dueMs: number; run: () => void }>();

  now(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { dueMs: this.#nowMs + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get pending(): number {
    return this.#timers.size;
  }

  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const next = [...this.#timers].filter((t) => t.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = next.dueMs;
      next.run();
    }
    this.#nowMs = endMs;
  }
}

/** Lets everything that is ready run: promises, then whatever they set off. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
