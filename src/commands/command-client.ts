import { HubError } from '../errors.ts';
import { type CommandCodec, encodeMessage } from '../protocol/codec.ts';
import type { CommandUpdate, Payload } from '../protocol/command.ts';
import {
  type DeepPartial,
  type MethodDefinition,
  messageType,
  methodType,
  type RequestOf,
  type ResponseOf,
  type ServiceDefinition,
} from '../protocol/service-definition.ts';
import type { SendReceipt } from './calls.ts';
import { itemsOf } from './items.ts';
import { type CallerOptions, PayloadCaller } from './payload-caller.ts';
import { fromPayload, reasonOf } from './payloads.ts';
import type { SendOptions } from './send-options.ts';

/** What `commandClient` needs to know beside the contract. */
export type CommandClientOptions = CallerOptions;

/** The verbs that every method has beside the call itself. */
export interface MethodVerbs<Request> {
  /** Resolves once the device has it, or once it is stored. As `StreamingCommandClient.send`. */
  send(request: DeepPartial<Request>, options?: SendOptions): Promise<SendReceipt>;
  /** Every update, the terminal one included. As `StreamingCommandClient.updates`. */
  updates(request: DeepPartial<Request>, options?: SendOptions): AsyncIterable<CommandUpdate>;
}

/** A unary method: resolves to the device's answer. As `StreamingCommandClient.request`. */
export interface UnaryMethod<Request, Response> extends MethodVerbs<Request> {
  (request: DeepPartial<Request>, options?: SendOptions): Promise<Response>;
}

/**
 * A server-streaming method: the items that the device yields. Ends when the device is done, throws the `HubError` of
 * any other end. Leaving the loop early cancels the command.
 */
export interface StreamingMethod<Request, Response> extends MethodVerbs<Request> {
  (request: DeepPartial<Request>, options?: SendOptions): AsyncIterable<Response>;
}

/** One method of a contract as its caller sees it; `never` for client-streaming ones. */
export type ClientMethod<M extends MethodDefinition> = M['requestStream'] extends true
  ? never
  : M['responseStream'] extends true
    ? StreamingMethod<RequestOf<M>, ResponseOf<M>>
    : UnaryMethod<RequestOf<M>, ResponseOf<M>>;

/** The device as an object: a method for each one of the contract that is not client-streaming. */
export type CommandClient<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods'] as D['methods'][K]['requestStream'] extends true ? never : K]: ClientMethod<
    D['methods'][K]
  >;
} & {
  /** Lets go of the connection to a hub in another process. May be called twice. */
  [Symbol.asyncDispose](): Promise<void>;
};

/**
 * A device that implements a gRPC service, as an object with the methods of that service:
 *
 * ```ts
 * const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7' });
 * const { rpm } = await pump.start({ rpm: 1200 });
 * ```
 */
export function commandClient<D extends ServiceDefinition>(
  definition: D,
  options: CommandClientOptions,
): CommandClient<D> {
  const caller = new PayloadCaller(options);
  const client: Record<PropertyKey, unknown> = { [Symbol.asyncDispose]: () => caller.close() };
  for (const [key, method] of Object.entries(definition.methods)) {
    client[key] = clientMethod(caller, definition, method);
  }
  return client as CommandClient<D>;
}

/** Encodes the request of a method, parts that are left out filled in. Throws `invalid-argument`. */
export function encodeRequest(service: ServiceDefinition, method: MethodDefinition, request: unknown): Payload {
  const type = methodType(service, method);
  if (method.requestStream)
    throw new HubError('unimplemented', `${type} takes a stream of requests; a command is a single one`);
  if (typeof request !== 'object' || request === null)
    throw new HubError('invalid-argument', `the request of ${type} is ${String(request)}: it has to be an object`);
  const message = messageType<unknown>(method.requestType);
  try {
    return { type, value: encodeMessage(message, message.fromPartial?.(request) ?? request) };
  } catch (error) {
    throw new HubError('invalid-argument', `the request of ${type} is not valid: ${reasonOf(error)}`, { cause: error });
  }
}

/** The codec of a method's answers. */
export function responseCodec(method: MethodDefinition): CommandCodec<unknown> {
  const message = messageType<unknown>(method.responseType);
  return {
    type: message.$type,
    encode: (value) => encodeMessage(message, value),
    decode: (bytes) => message.decode(bytes),
  };
}

function clientMethod(caller: PayloadCaller, service: ServiceDefinition, method: MethodDefinition): unknown {
  const codec = responseCodec(method);
  const call = method.responseStream
    ? (request: unknown, options?: SendOptions): AsyncIterable<unknown> => {
        const payload = encodeRequest(service, method, request);
        return itemsOf(codec, options?.signal, (signal) => caller.updates(payload, { ...options, signal }));
      }
    : (request: unknown, options?: SendOptions): Promise<unknown> => {
        try {
          return caller.settle(encodeRequest(service, method, request), options, ({ commandId, result }) =>
            fromPayload(codec, result, commandId),
          );
        } catch (error) {
          return Promise.reject(error);
        }
      };
  return Object.assign(call, {
    send: async (request: unknown, options?: SendOptions) =>
      caller.send(encodeRequest(service, method, request), options),
    updates: (request: unknown, options?: SendOptions) =>
      caller.updates(encodeRequest(service, method, request), options),
  });
}
