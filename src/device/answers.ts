import { clip } from '../protocol/checks.ts';
import { encodeMessage } from '../protocol/codec.ts';
import type { CommandError, Payload, TerminalState } from '../protocol/command.ts';
import { stateToProto } from '../protocol/convert.ts';
import { Result } from '../protocol/gen/signalbox/v1/device.ts';
import { encodeSuccess } from '../protocol/hot-frames.ts';
import { type DeviceFact, tell } from './facts.ts';
import type { Journal } from './journal/journal.ts';
import type { Outbox } from './outbox.ts';

export interface AnswersOptions {
  readonly journal: Journal;
  readonly outbox: Outbox;
  readonly observe: ((fact: DeviceFact) => void) | undefined;
}

/**
 * The results of commands: written into the journal, told until the hub has them, and told again when their command
 * comes again.
 */
export class Answers {
  readonly #options: AnswersOptions;
  #retired: Promise<void> | undefined;

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  /** Takes up what the journal holds from before: results to be told again, and commands that a crash has cut off. */
  restore(): void {
    const { journal } = this.#options;
    for (const { commandId, result, idempotent } of journal.unacknowledged()) {
      if (result) this.#offer(commandId, result);
      else if (idempotent) this.#record(journal.retire([commandId]), commandId);
      else {
        const message = 'the device was interrupted while it ran this command; it may have had its effect';
        this.end(commandId, '', 'unknown', undefined, { code: 'interrupted', message });
      }
    }
  }

  /** True for a command that has ended here: it is answered again, unless that answer is on its way already. */
  repeat(commandId: string): boolean {
    const { journal, outbox } = this.#options;
    if (outbox.results.has(commandId)) return true;
    const entry = journal.lookup(commandId);
    if (!entry) return false;
    if (entry.result) this.#offer(commandId, entry.result);
    else {
      const message = 'the device has run this command before, and its result is not kept any more';
      this.refuse(commandId, '', 'unknown', { code: 'result-forgotten', message });
    }
    return true;
  }

  /** A command that was begun ends: its result is recorded, and told. */
  end(
    commandId: string,
    type: string,
    state: TerminalState,
    payload: Payload | undefined,
    error: CommandError | undefined,
  ): void {
    const { journal, outbox } = this.#options;
    const body = encodeResult(commandId, state, payload, error);
    if (payload && !outbox.fits(body)) {
      const message = `the result has ${body.length} bytes, the hub takes ${outbox.maxFrameBytes}`;
      this.end(commandId, type, 'failed', undefined, { code: 'result-too-large', message });
      return;
    }
    this.#record(journal.finish(commandId, body), commandId);
    this.#tell(commandId, type, state, body, error);
  }

  /** A command is not begun: that is told, but not recorded, so that it may come again. */
  refuse(commandId: string, type: string, state: TerminalState, error: CommandError): void {
    this.#tell(commandId, type, state, encodeResult(commandId, state, undefined, error), error);
  }

  /** A command is cancelled before it was begun: recorded, so that it is not run when it comes after its cancel. */
  forestall(commandId: string, type: string, error: CommandError): void {
    this.#record(this.#options.journal.begin(commandId, { idempotent: false }), commandId);
    this.end(commandId, type, 'cancelled', undefined, error);
  }

  /** The hub has these results. */
  retire(commandIds: readonly string[]): void {
    this.#retired = this.#record(this.#options.journal.retire(commandIds), undefined);
  }

  /** Resolves when the journal knows what the hub has. */
  async settled(): Promise<void> {
    await this.#retired;
  }

  #tell(
    commandId: string,
    type: string,
    state: TerminalState,
    body: Uint8Array,
    error: CommandError | undefined,
  ): void {
    this.#offer(commandId, body);
    const { observe } = this.#options;
    if (observe) tell(observe, { kind: 'command-ended', commandId, type, state, code: error?.code });
  }

  #offer(commandId: string, body: Uint8Array): void {
    this.#options.outbox.offer({ kind: 'result', subject: commandId, body });
  }

  #record(written: Promise<void> | undefined, commandId: string | undefined): Promise<void> | undefined {
    return written?.catch((error: unknown) =>
      tell(this.#options.observe, { kind: 'journal-failed', commandId, error }),
    );
  }
}

function encodeResult(
  commandId: string,
  state: TerminalState,
  payload: Payload | undefined,
  error: CommandError | undefined,
): Uint8Array {
  const success = state === 'succeeded' && payload !== undefined ? encodeSuccess(commandId, payload) : undefined;
  if (success !== undefined) return success;
  return encodeMessage(Result, {
    commandId,
    state: stateToProto(state),
    payload: payload && { type: payload.type, value: payload.value },
    error: error && { code: clip(error.code), message: clip(error.message) },
  });
}
