import type { CommandCodec } from '../protocol/codec.ts';
import type { CommandUpdate, Payload } from '../protocol/command.ts';
import type { SendReceipt, SettledCommand } from './calls.ts';
import { type CallerOptions, PayloadCaller } from './payload-caller.ts';
import { fromPayload, toPayload } from './payloads.ts';
import { invalid, type SendOptions } from './send-options.ts';

/** What a client for one device needs to know. */
export interface StreamingCommandClientOptions<TCommand, TResult = Payload> extends CallerOptions {
  /** Turns commands into bytes: `protoCodec(PumpCommand)`, or your own. */
  readonly codec: CommandCodec<TCommand>;
  /** Reads the answers. Default: they are given as the payload that came. */
  readonly result?: CommandCodec<TResult> | undefined;
}

/**
 * Commands one device as if it were an object in this process. Extend it to give commands their names:
 *
 * ```ts
 * class PumpClient extends StreamingCommandClient<PumpCommand> {
 *   stop() { return this.request({ kind: { $case: 'stop', value: {} } }); }
 * }
 * ```
 *
 * All verbs throw `HubError`s: before acceptance `invalid-argument`, `client-offline`, `mailbox-full`,
 * `idempotency-conflict`, `unauthenticated`, `permission-denied`, `unavailable`.
 */
export class StreamingCommandClient<TCommand, TResult = Payload> {
  readonly #caller: PayloadCaller;
  readonly #codec: CommandCodec<TCommand>;
  readonly #result: CommandCodec<TResult> | undefined;

  /** Throws `invalid-argument` naming the value that cannot be. */
  constructor({ codec, result, ...options }: StreamingCommandClientOptions<TCommand, TResult>) {
    if (typeof codec?.encode !== 'function') throw invalid('codec', codec, 'a CommandCodec, as protoCodec makes one');
    this.#caller = new PayloadCaller(options);
    this.#codec = codec;
    this.#result = result;
  }

  get clientId(): string {
    return this.#caller.clientId;
  }

  /**
   * Resolves once the device has acknowledged the command, or once it is stored for `whenOffline: 'queue'`. A later
   * abort of `signal` does not cancel it any more. Throws if the command ended before that.
   */
  async send(command: TCommand, options?: SendOptions): Promise<SendReceipt> {
    return this.#caller.send(toPayload(this.#codec, command), options);
  }

  /**
   * Resolves to the device's answer. Throws `command-failed` (with the device's own `deviceCode`), `command-rejected`,
   * `command-expired`, `command-cancelled`, `outcome-unknown`, or `deadline-exceeded` with the `commandId` when a
   * queued command has not ended within `timeoutMs`: it lives on.
   */
  request(command: TCommand, options?: SendOptions): Promise<TResult> {
    try {
      return this.#caller.settle(toPayload(this.#codec, command), options, this.#read);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  // Without a codec for results TResult is Payload, unless the caller wrote another type argument by hand.
  readonly #read = ({ commandId, result }: SettledCommand): TResult =>
    this.#result === undefined ? (result as TResult) : fromPayload(this.#result, result, commandId);

  /**
   * Every update of the command, to the terminal one, which is told and not thrown. The command is sent when the
   * iteration begins. Leaving the loop stops the watching, not the command.
   */
  updates(command: TCommand, options?: SendOptions): AsyncIterable<CommandUpdate> {
    return this.#caller.updates(toPayload(this.#codec, command), options);
  }

  /** Lets go of the connection to a hub in another process. May be called twice. */
  close(): Promise<void> {
    return this.#caller.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
