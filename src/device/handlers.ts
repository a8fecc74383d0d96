import { HubError } from '../errors.ts';
import { type CommandCodec, encodeMessage } from '../protocol/codec.ts';
import type { Payload } from '../protocol/command.ts';
import {
  type DeepPartial,
  type MessageShape,
  type MethodDefinition,
  messageType,
  methodType,
  type RequestOf,
  type ResponseOf,
  type ServiceDefinition,
} from '../protocol/service-definition.ts';
import { CommandRejected } from './command-rejected.ts';

/** What a handler is given beside its request. */
export interface CommandContext {
  readonly commandId: string;
  /** Aborted when the command is cancelled, its time is over, or the device is closed. */
  readonly signal: AbortSignal;
  /** W3C trace context of the caller. */
  readonly traceparent: string | undefined;
  /** When it has to have ended, in Unix ms by the device's clock; undefined: no limit. */
  readonly deadlineMs: number | undefined;
  /**
   * Tells how far it is. The newest wins: at most about ten a second are sent, and none while the wire is busy.
   * Throws `invalid-argument` for a fraction that is not from 0 to 1.
   */
  progress(progress: { readonly fraction?: number | undefined; readonly note?: string | undefined }): void;
  /** As `device.emit`. */
  emit(name: string, data?: unknown): Promise<void>;
}

/** What the library's own handlers may do besides. */
export interface ItemContext extends CommandContext {
  /** Sends one item of a streaming answer. A promise: wait for it, there is no room for more. */
  item(payload: Payload): Promise<void> | undefined;
}

/** Runs one command: from its payload's bytes to the result's payload. */
export type CommandHandler = (bytes: Uint8Array, context: ItemContext) => Payload | Promise<Payload>;

/** What `device.implement` asks for: each method of the service, as a function of its request. */
export type ServiceImplementation<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods']]: MethodImplementation<D['methods'][K]>;
};

export type MethodImplementation<M extends MethodDefinition> = M['requestStream'] extends true
  ? never
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, context: CommandContext) => AsyncIterable<DeepPartial<ResponseOf<M>>>
    : (
        request: RequestOf<M>,
        context: CommandContext,
      ) => DeepPartial<ResponseOf<M>> | Promise<DeepPartial<ResponseOf<M>>>;

export interface HandleOptions<R> {
  /** How the handler's value is sent. Default: it is not, the result is empty. */
  result?: CommandCodec<R> | undefined;
}

const nothing: Payload = { type: '', value: new Uint8Array() };

/** The handlers of a service by `payload.type`. Throws `invalid-argument` or `unimplemented` for what cannot be one. */
export function serviceHandlers<D extends ServiceDefinition>(
  service: D,
  implementation: ServiceImplementation<D>,
): Map<string, CommandHandler> {
  const methods = implementation as Readonly<Record<string, unknown>>;
  const handlers = new Map<string, CommandHandler>();
  for (const [name, method] of Object.entries(service.methods)) {
    const type = methodType(service, method);
    if (method.requestStream)
      throw new HubError('unimplemented', `${type} streams its requests, a command has only one`);
    const run = methods[name];
    if (typeof run !== 'function')
      throw new HubError('invalid-argument', `the implementation of ${service.fullName} has no method "${name}"`);
    const call = (request: unknown, context: CommandContext): unknown => run.call(implementation, request, context);
    handlers.set(type, method.responseStream ? streaming(method, call) : unary(method, call));
  }
  return handlers;
}

/** A handler for values of a codec. */
export function codecHandler<T, R>(
  codec: CommandCodec<T>,
  run: (value: T, context: CommandContext) => R | Promise<R>,
  { result }: HandleOptions<R>,
): CommandHandler {
  const answer = (value: R): Payload => (result ? { type: result.type, value: result.encode(value) } : nothing);
  return (bytes, context) => {
    const value = decode(codec.type, () => codec.decode(bytes));
    return then(run(value, context), answer);
  };
}

function unary(method: MethodDefinition, call: (request: unknown, context: CommandContext) => unknown): CommandHandler {
  const request = messageType<unknown>(method.requestType);
  const answer = responses(method.responseType);
  return (bytes, context) =>
    then(
      call(
        decode(request.$type, () => request.decode(bytes)),
        context,
      ),
      answer,
    );
}

function streaming(
  method: MethodDefinition,
  call: (request: unknown, context: CommandContext) => unknown,
): CommandHandler {
  const request = messageType<unknown>(method.requestType);
  const answer = responses(method.responseType);
  return async (bytes, context) => {
    const items = call(
      decode(request.$type, () => request.decode(bytes)),
      context,
    );
    for await (const item of items as AsyncIterable<unknown>) {
      // A cancelled command's items are not wanted any more; leaving the loop lets the handler tidy up.
      if (context.signal.aborted) break;
      await context.item(answer(item));
    }
    return nothing;
  };
}

function responses(shape: MessageShape): (value: unknown) => Payload {
  const type = messageType<unknown>(shape);
  return (value) => ({
    type: type.$type,
    value: encodeMessage(type, type.fromPartial ? type.fromPartial(value ?? {}) : value),
  });
}

function decode<T>(type: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandRejected('invalid-argument', `payload is not a ${type}: ${reason}`, { cause: error });
  }
}

/** As `await`, but at once where there is nothing to wait for. */
function then<T, R>(value: T | Promise<T>, next: (value: T) => R): R | Promise<R> {
  return isPromise(value) ? value.then(next) : next(value);
}

export function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof (value as { then?: unknown } | undefined | null)?.then === 'function';
}
